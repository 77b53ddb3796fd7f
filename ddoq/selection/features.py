"""What selections accept."""

from torch import Tensor

from ddoq.errors import UserError
from ddoq.quantization.codebook import check_points


def check_features(features: Tensor, k: int) -> Tensor:
    """Refuse what nothing can be selected from.

    Args:
        features: Float ``(n, d)``.
        k: How many are to be selected.

    Returns:
        The features as float64, in which sums over thousands of points keep their digits.

    Raises:
        UserError: If features are no finite float matrix, or k is not in 1..n.
    """
    checked = check_points(features)
    if not 1 <= k <= len(checked):
        raise UserError(f"k must be in 1..{len(checked)}, the number of points, not {k}.")
    return features.detach().double()
