"""Diffusion-driven patch selection: the crops of real images of which a diffusion model sees their class."""

from baselines.patch_selection.distiller import PatchSelection

__all__ = ["PatchSelection"]
