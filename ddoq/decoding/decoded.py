"""A distilled set as students see it."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ddoq.decoding.transform import Transform
from ddoq.images import to_uint8
from ddoq.labels.targets import Targets


@dataclass(frozen=True)
class Decoded:
    """Training images with what belongs to each of them: what a decoder makes of a set.

    Attributes:
        images: uint8 pixels ``(m, 3, h, w)``, or float32: pixels in [0, 1] where ``gives_pixels``, else images in the
            space of ``transform``.
        labels: int64 ``(m,)``; None where targets alone say what to learn.
        targets: Targets ``(m, d)``; None where labels alone do.
        weights: float32 ``(m,)``, of mean 1 within each class.
        index: int64 ``(m,)``: the stored image that each comes from.
        stages: int64 ``(m,)``; None without stages.
        transform: From pixels in [0, 1] to what students of this set take; None where they normalise as the dataset says.
        gives_pixels: Whether ``images`` are pixels.
    """

    images: Tensor
    labels: Tensor | None
    targets: Targets | None
    weights: Tensor
    index: Tensor
    stages: Tensor | None = None
    transform: Transform | None = None
    gives_pixels: bool = True

    def __len__(self) -> int:
        """Count the images."""
        return len(self.images)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.images.shape[-2], self.images.shape[-1]

    def classes(self) -> Tensor | None:
        """Return labels, or the likeliest classes of targets, int64 ``(m,)``; None where vectors say neither."""
        if self.labels is not None or self.targets is None or self.targets.kind == "vectors":
            return self.labels
        return self.targets.values.argmax(dim=1)

    def pixels(self) -> Tensor:
        """Return the images as anyone may look at them, uint8 ``(m, 3, h, w)``; what leaves [0, 1] is cut off."""
        if self.images.dtype == torch.uint8:
            return self.images
        if self.gives_pixels or self.transform is None:
            return to_uint8(self.images)
        return to_uint8(self.transform.invert(self.images))

    def to(self, device: torch.device | str) -> "Decoded":
        """Copy to a device; a copy that is there already is the same one."""
        tensors = ("images", "labels", "weights", "index", "stages")
        moved: dict[str, Any] = {
            name: value.to(device) for name in tensors if (value := getattr(self, name)) is not None
        }
        if self.targets is not None:
            moved["targets"] = replace(self.targets, values=self.targets.values.to(device))
        if self.transform is not None:
            moved["transform"] = self.transform.to(device)
        return replace(self, **moved)
