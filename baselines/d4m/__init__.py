"""D4M: latent prototypes decoded by a diffusion model, all of equal weight."""

from baselines.d4m.distiller import D4M

__all__ = ["D4M"]
