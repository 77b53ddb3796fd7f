"""Generators that can be split before any of their layers: decoders of priors, style-based ones, and those of others."""

from ddoq.priors.generators.autoencoder import DecoderGenerator
from ddoq.priors.generators.base import Generator, Latents, Split

__all__ = ["DecoderGenerator", "Generator", "Latents", "Split"]
