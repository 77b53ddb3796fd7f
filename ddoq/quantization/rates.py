"""How fast quantisation improves: the power law of its error in the number of centroids, and the dimension it implies."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ddoq.errors import UserError


@dataclass(frozen=True)
class PowerLaw:
    """A line through logarithms.

    Attributes:
        exponent: Its slope.
        low: Lower end of the slope's interval; None for two points, which leave nothing to judge it by.
        high: Upper end of the interval.
        intercept: Logarithm of the value at 1.
        points: Number of points behind it.
    """

    exponent: float
    low: float | None
    high: float | None
    intercept: float
    points: int

    def at(self, size: float) -> float:
        """Return the value of the law at a size."""
        return math.exp(self.intercept + self.exponent * math.log(size))


def fit_power_law(
    sizes: Sequence[float], values: Sequence[float], confidence: float = 0.95
) -> PowerLaw:
    r"""Fit :math:`v = c\,s^a` by least squares of logarithms.

    The interval is :math:`\hat a \pm t_{n-2} \cdot \mathrm{se}`. It takes deviations from the line as independent; those of
    a curve that bends are not, and then it is too narrow.

    Args:
        sizes: Positive, at least two different ones.
        values: Positive, one for each size.
        confidence: Coverage of the interval, in (0, 1).

    Returns:
        The law.

    Raises:
        UserError: If there are fewer than two sizes, or something is not positive.

    Example:
        >>> round(fit_power_law([1, 2, 4, 8], [3, 1.5, 0.75, 0.375]).exponent, 6)
        -1.0
    """
    if len(sizes) != len(values) or len(set(sizes)) < 2:
        raise UserError(f"A power law needs values at two sizes at least, not at {list(sizes)}.")
    if not all(0 < number < math.inf for number in (*sizes, *values)):
        raise UserError("A power law needs sizes and values that are positive and finite.")
    from scipy.stats import linregress, t  # type: ignore[import-untyped, unused-ignore]

    line = linregress([math.log(s) for s in sizes], [math.log(v) for v in values])
    low = high = None
    if len(sizes) > 2:
        reach = float(t.ppf((1 + confidence) / 2, len(sizes) - 2)) * float(line.stderr)
        low, high = float(line.slope) - reach, float(line.slope) + reach
    return PowerLaw(float(line.slope), low, high, float(line.intercept), len(sizes))


def implied_dimension(exponent: float, order: int = 2) -> float:
    r"""Return the dimension in which quantisation would improve at this rate.

    The least mean distance to the power ``order`` falls as :math:`K^{-\text{order}/d}` for a measure with a density in
    d dimensions. Source: P. L. Zador, *Asymptotic quantization error of continuous signals and the quantization
    dimension*, IEEE Transactions on Information Theory 28 (1982).

    Args:
        exponent: Of the power law.
        order: 2 for the distortion (a squared distance), 1 for the Wasserstein distance.

    Returns:
        The dimension; infinity where nothing falls.

    Example:
        >>> implied_dimension(-0.5), implied_dimension(-0.25, order=1)
        (4.0, 4.0)
    """
    return -order / exponent if exponent < 0 else math.inf
