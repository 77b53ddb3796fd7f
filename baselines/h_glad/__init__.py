"""Latents that move through a generator while a method optimises them (H-GLaD)."""

from baselines.h_glad.distiller import HGLaD

__all__ = ["HGLaD"]
