"""A guard against label-order mistakes: does the teacher recognise what the distilled images claim to show?"""

from scipy.stats import binomtest

from ddoq.chance import SIGNIFICANCE
from ddoq.errors import UserError

# Distilled images are harder than real ones (blurred, off the manifold). A set whose labels are right is expected to
# keep at least this share of the teacher's margin over chance; it takes fewer images to tell a larger share from none.
KEPT_MARGIN = 0.25

# A teacher that has gone less than this share of the way from chance to perfection cannot judge anyone.
GOOD_TEACHER = 0.2


def labels_disagree(
    real_accuracy: float, distilled_accuracy: float, num_classes: int, n: int
) -> bool:
    r"""Say whether a teacher's agreement with the labels of a distilled set is no better than chance.

    With chance :math:`p_0 = 1/C`, the teacher's accuracy on real images :math:`a`, and the agreement that a usable
    set should reach at least, :math:`p_1 = p_0 + (a - p_0) / 4`, the answer is yes only if

    1. the teacher is good: :math:`a - p_0 \ge 0.2\,(1 - p_0)`;
    2. the hits are not above chance, by a one-sided binomial test against :math:`p_0` at :math:`10^{-3}`; and
    3. the hits are below what is expected, by a one-sided binomial test against :math:`p_1` at :math:`10^{-3}`.

    The third condition is what asks for enough images: a set of ten with one hit among ten classes passes, since
    such a set may well be correct. It also bounds the rate of false alarms by :math:`10^{-3}` for every set on
    which the teacher's true agreement is :math:`p_1` or more. A wrong order usually gives *less* than chance
    (the classes of a shifted list are never right), which is caught by the same test. A swap of a few classes
    among many lowers the agreement only a little and is not seen here.

    Args:
        real_accuracy: Top-1 of the teacher on real test images, in [0, 1].
        distilled_accuracy: Top-1 of the teacher against the labels of the distilled set, in [0, 1].
        num_classes: Number of classes.
        n: Number of distilled images.

    Returns:
        True if the labels, or the images, are almost certainly wrong.

    Raises:
        UserError: If an accuracy is not in [0, 1], or there is no image.

    Example:
        >>> labels_disagree(0.9, 0.1, num_classes=10, n=100)
        True
        >>> labels_disagree(0.9, 0.1, num_classes=10, n=10)
        False
        >>> labels_disagree(0.9, 0.5, num_classes=10, n=100)
        False
    """
    for what, value in (("real", real_accuracy), ("distilled", distilled_accuracy)):
        if not 0.0 <= value <= 1.0:
            raise UserError(f"The accuracy on {what} images must be in [0, 1], not {value}.")
    if n < 1:
        raise UserError("Accuracy on distilled images needs at least one image.")
    chance = 1 / num_classes
    margin = real_accuracy - chance
    if num_classes < 2 or margin < GOOD_TEACHER * (1 - chance):
        return False
    hits = round(distilled_accuracy * n)
    above_chance = binomtest(hits, n, chance, alternative="greater").pvalue <= SIGNIFICANCE
    expected = chance + KEPT_MARGIN * margin
    below_expected = binomtest(hits, n, expected, alternative="less").pvalue <= SIGNIFICANCE
    return bool(below_expected and not above_chance)


def label_order_check(
    real_accuracy: float, distilled_accuracy: float, num_classes: int, n: int
) -> None:
    """Stop a run whose distilled labels mean other classes than the teacher's.

    Args:
        real_accuracy: Top-1 of the teacher on real test images, in [0, 1].
        distilled_accuracy: Top-1 of the teacher against the labels of the distilled set, in [0, 1].
        num_classes: Number of classes.
        n: Number of distilled images.

    Raises:
        UserError: If :func:`labels_disagree`; it lists the usual causes.

    Example:
        >>> label_order_check(0.95, 0.80, num_classes=10, n=100)
    """
    if not labels_disagree(real_accuracy, distilled_accuracy, num_classes, n):
        return
    raise UserError(
        f"The teacher is right on {real_accuracy:.1%} of the real test images, but agrees with only "
        f"{distilled_accuracy:.1%} of the {n} distilled labels; chance is {1 / num_classes:.1%}. The labels most "
        "likely stand for other classes. Usual causes: prompts or class names listed in another order than "
        "the labels; folder names without leading zeros, so that '10' sorts before '2'; a teacher or a "
        "prior trained on another dataset or another class order. If the order is right, the images themselves "
        "show nothing that the teacher knows: look at images.png in the folder of the distilled set (an "
        "untrained prior gives noise)."
    )
