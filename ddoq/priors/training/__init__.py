"""Training of small priors: an autoencoder, then a diffusion transformer over its latents."""

from ddoq.priors.training.config import DiTConfig, VAEConfig
from ddoq.priors.training.dit import train_dit
from ddoq.priors.training.vae import train_vae

__all__ = ["DiTConfig", "VAEConfig", "train_dit", "train_vae"]
