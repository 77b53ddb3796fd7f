"""Priors: an encoder, a decoder and a class-conditional diffusion model over one latent space."""

from ddoq.priors.base import Prior, Sampling
from ddoq.priors.diffusion import DiffusionPrior
from ddoq.priors.pretrained import PretrainedPrior
from ddoq.priors.sources import PriorSource, TrainedPrior
from ddoq.priors.stable_diffusion import StableDiffusionPrior
from ddoq.priors.training.config import DiTConfig, VAEConfig

__all__ = [
    "DiTConfig",
    "DiffusionPrior",
    "PretrainedPrior",
    "Prior",
    "PriorSource",
    "Sampling",
    "StableDiffusionPrior",
    "TrainedPrior",
    "VAEConfig",
]
