"""Which strength and guidance to decode with, by what was measured of several."""

from collections.abc import Sequence
from dataclasses import dataclass

from ddoq.errors import UserError

# Decoded images are good enough where the teacher recognises at most this share less of them than of real test images.
MARGIN = 0.10

_ROUNDING = 1e-9  # 0.93 - 0.1 is a little more than 0.83

RULE = (
    "of the settings at which the teacher recognises at least as large a share of the decoded centroids as of real test "
    f"images minus {100 * MARGIN:g} points, the one of the least Frechet distance to these; where there is none, the one "
    "of the highest recognition"
)


@dataclass(frozen=True)
class DecodedSetting:
    """What was measured of the centroids that were decoded at one strength and one guidance.

    Attributes:
        strength: Share of the noise schedule.
        guidance_scale: Classifier-free guidance.
        images: How many there are.
        recognised: Share of which the teacher names the intended class, in [0, 1].
        frechet: Squared Frechet distance to the real test images in the teacher's features.
        psnr: Of the images against the same centroids decoded without diffusion, in dB: how little diffusion changed.
    """

    strength: float
    guidance_scale: float
    images: int
    recognised: float
    frechet: float
    psnr: float


def choose_setting(
    settings: Sequence[DecodedSetting], recognised_real: float
) -> tuple[DecodedSetting, bool]:
    """Choose a setting by :data:`RULE`; of equal ones that of less strength, then of less guidance.

    Args:
        settings: What was measured, at least one.
        recognised_real: Share of real test images that the teacher recognises, in [0, 1].

    Returns:
        The setting, and whether its recognition reaches the goal.

    Raises:
        UserError: If there is nothing to choose from.

    Example:
        >>> weak = DecodedSetting(0.3, 4, 100, recognised=0.6, frechet=9.0, psnr=20.0)
        >>> strong = DecodedSetting(0.7, 4, 100, recognised=0.8, frechet=12.0, psnr=15.0)
        >>> for real in (0.65, 0.85, 0.99):
        ...     setting, reached = choose_setting([weak, strong], real)
        ...     print(setting.strength, reached)
        0.3 True
        0.7 True
        0.7 False
    """
    if not settings:
        raise UserError("There is no setting to choose from.")

    def order(setting: DecodedSetting) -> tuple[float, float, float]:
        return setting.frechet, setting.strength, setting.guidance_scale

    goal = recognised_real - MARGIN - _ROUNDING
    good = [s for s in settings if s.recognised >= goal]
    if good:
        return min(good, key=order), True
    return min(settings, key=lambda s: (-s.recognised, *order(s))), False
