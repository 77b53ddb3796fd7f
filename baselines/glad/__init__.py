"""Images that a generator makes, of whose latents a method optimises (GLaD)."""

from baselines.glad.distiller import GLaD
from baselines.glad.generators import GeneratorSource, PriorDecoder
from baselines.glad.opened import OpenedGenerator
from baselines.glad.style_gan import StyleGAN

__all__ = ["GLaD", "GeneratorSource", "OpenedGenerator", "PriorDecoder", "StyleGAN"]
