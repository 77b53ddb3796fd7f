"""How good images are in a teacher's eyes: recognition, and Frechet distances between sets of its features."""

from ddoq.measures.choice import MARGIN, DecodedSetting, choose_setting
from ddoq.measures.drawing import decode_plainly, draw_samples
from ddoq.measures.frechet import Gaussian, fit_gaussian, frechet_distance
from ddoq.measures.recognition import Seen, show

__all__ = [
    "MARGIN",
    "DecodedSetting",
    "Gaussian",
    "Seen",
    "choose_setting",
    "decode_plainly",
    "draw_samples",
    "fit_gaussian",
    "frechet_distance",
    "show",
]
