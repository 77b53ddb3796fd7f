"""What guessing explains: the accuracy that no skill needs, at a number of images."""

from scipy.stats import binom

# Of one-sided tests: so often guessing goes beyond the bound, and a correct set is stopped (ddoq.teachers.label_check).
SIGNIFICANCE = 1e-3


def chance_bound(n: int, chance: float) -> float:
    """Return the largest accuracy that guessing explains: it is beyond it in fewer than one case of a thousand.

    Args:
        n: Images that were answered, at least 1.
        chance: Probability that a guess is right, in [0, 1].

    Returns:
        An accuracy in [0, 1], from a one-sided binomial test.

    Example:
        >>> chance_bound(100, 0.1), chance_bound(10_000, 0.1)
        (0.2, 0.1094)
    """
    return float(binom.isf(SIGNIFICANCE, n, chance)) / n
