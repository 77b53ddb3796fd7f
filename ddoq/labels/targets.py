"""Targets that come with a distilled set: learned or given vectors in place of class indices."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from ddoq.errors import UserError

TargetKind = Literal["probabilities", "logits", "vectors"]
KINDS: tuple[TargetKind, ...] = get_args(TargetKind)

_TOLERANCE = 1e-3  # how far the probabilities of an image may be from a sum of 1


@dataclass(frozen=True)
class Targets:
    """What a student shall answer to each image of a set.

    Attributes:
        values: float32 ``(n, d)``.
        kind: ``probabilities`` of the classes, ``logits`` of the classes, or real ``vectors`` of any meaning, for a
            squared error alone.

    Raises:
        UserError: If shape, dtype or values contradict the kind.

    Example:
        >>> Targets(torch.tensor([[0.25, 0.75]]), "probabilities").values.shape
        torch.Size([1, 2])
    """

    values: Tensor
    kind: TargetKind

    def __post_init__(self) -> None:
        """Check that values and kind fit."""
        if self.values.dtype != torch.float32 or self.values.ndim != 2 or not self.values.numel():
            raise UserError(
                f"Targets must be float32 (n, d), not {self.values.dtype} {tuple(self.values.shape)}."
            )
        if not bool(torch.isfinite(self.values).all()):
            raise UserError("Targets must be finite.")
        if self.kind == "probabilities":
            off = (self.values.sum(dim=1) - 1).abs().max()
            if bool((self.values < 0).any()) or float(off) > _TOLERANCE:
                raise UserError("Targets that are probabilities must be at least 0 and sum to 1.")

    @classmethod
    def read(cls, values: Tensor, kind: str | None) -> "Targets":
        """Make targets of what a file holds; see the class for what is refused."""
        known = next((known for known in KINDS if known == kind), None)
        if known is None:
            raise UserError(f"Targets are {', '.join(KINDS)}, not {kind!r}.")
        return cls(values, known)

    def __len__(self) -> int:
        """Count the images."""
        return len(self.values)

    @property
    def width(self) -> int:
        """Numbers per image."""
        return self.values.shape[1]

    def rows(self, positions: Tensor) -> "Targets":
        """Take the targets of some images, int64 ``(b,)``."""
        return replace(self, values=self.values[positions])

    def as_logits(self) -> Tensor:
        """Return what a softmax turns into the targets, float32 ``(n, d)``.

        Raises:
            UserError: For vectors, which are no distribution.

        Example:
            >>> Targets(torch.tensor([[0.25, 0.75]]), "probabilities").as_logits().softmax(dim=1)
            tensor([[0.2500, 0.7500]])
        """
        if self.kind == "vectors":
            raise UserError("Targets that are vectors are no distribution over classes.")
        if self.kind == "logits":
            return self.values
        return self.values.clamp(min=torch.finfo(torch.float32).tiny).log()


def join_targets(parts: list[Targets]) -> Targets:
    """Put the targets of several shards behind one another.

    Raises:
        UserError: If they are of different kinds or lengths.
    """
    if len({(part.kind, part.width) for part in parts}) > 1:
        raise UserError("Targets of different kinds or lengths cannot be joined.")
    return Targets(torch.cat([part.values for part in parts]), parts[0].kind)
