"""NaN and infinity in what is computed: noticed, named, and never stored."""

from typing import SupportsFloat

import torch
from torch import Tensor, nn

from ddoq.errors import UserError

# Steps between two looks at losses: each look waits for the device.
LOOK = 100


class NotFiniteError(UserError):
    """Something that was computed is NaN or infinite; nothing of it is kept, checkpoints included."""


class DivergedError(NotFiniteError):
    """A training whose loss, weights or logits are not finite; ranks that train together raise it together."""


def is_finite(tensor: Tensor) -> bool:
    """Say whether no value of a tensor, of any dtype, is NaN or infinite.

    Example:
        >>> is_finite(torch.zeros(2)), is_finite(torch.tensor([0.0, torch.nan]))
        (True, False)
    """
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())


def check_images(images: Tensor, what: str, mend: str) -> None:
    """Refuse images that are not finite: clipped and rounded, they would be black.

    Args:
        images: Of any shape and dtype.
        what: What to call them.
        mend: A sentence on what to try.

    Raises:
        NotFiniteError: If a value is NaN or infinite.
    """
    if not is_finite(images):
        raise NotFiniteError(f"{what} are not finite (NaN or infinite). {mend}")


@torch.no_grad()
def non_finite_tensors(module: nn.Module) -> list[str]:
    """List the weights and the running statistics of a network that hold NaN or infinity, or a negative variance.

    Other buffers may hold an infinity on purpose, such as attention masks.

    Example:
        >>> norm = nn.BatchNorm1d(2)
        >>> norm.running_var[0] = torch.inf
        >>> non_finite_tensors(nn.Sequential(nn.Linear(2, 2), norm))
        ['1.running_var']
    """
    tensors = dict(module.named_parameters())
    for name, buffer in module.named_buffers():
        if name.rpartition(".")[2] in ("running_mean", "running_var"):
            tensors[name] = buffer  # type: ignore[assignment]
    floats = {name: part for name, part in tensors.items() if part.is_floating_point()}
    if not floats:
        return []
    sound = [
        torch.isfinite(part).all() & (part >= 0).all()
        if name.endswith("running_var")
        else torch.isfinite(part).all()
        for name, part in floats.items()
    ]
    # Read from the device at once; parts of a network may be on several.
    read = torch.stack([flag.to(sound[0].device) for flag in sound]).tolist()
    return [name for name, fine in zip(floats, read, strict=True) if not fine]


def check_weights(module: nn.Module, what: str, mend: str) -> None:
    """Refuse a network whose weights or running statistics are not finite.

    Args:
        module: The network.
        what: What to call it.
        mend: A sentence on what to do.

    Raises:
        NotFiniteError: Naming the first of them.
    """
    broken = non_finite_tensors(module)
    if broken:
        raise NotFiniteError(
            f"{what} has weights that are not finite (NaN or infinite): {broken[0]}{_others(broken)}. {mend}"
        )


def _others(names: list[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""


class LossWatch:
    """Collects the losses of a training and reads them from the device now and then, many at once.

    Args:
        done: Steps that were done before.

    Example:
        >>> watch = LossWatch()
        >>> for loss in (0.5, float("nan"), 0.5):
        ...     watch.add(torch.tensor(loss))
        >>> watch.first_bad()
        (2, nan)
        >>> watch.first_bad() is None
        True
    """

    def __init__(self, done: int = 0) -> None:
        self._done = done
        self._losses: list[Tensor] = []

    def add(self, loss: SupportsFloat) -> None:
        """Take the loss of the next step; a tensor is not read yet."""
        tensor = loss if isinstance(loss, Tensor) else torch.tensor(float(loss))
        self._losses.append(tensor.detach().float())

    def due(self) -> bool:
        """Say whether it is time to look."""
        return len(self._losses) >= LOOK

    def first_bad(self) -> tuple[int, float] | None:
        """Read the losses since the last look; return the first that is not finite and its step, counted from 1."""
        losses, self._losses = self._losses, []
        before = self._done
        self._done += len(losses)
        if not losses:
            return None
        values = torch.stack(losses)
        if bool(torch.isfinite(values).all()):
            return None
        index = int(torch.nonzero(~torch.isfinite(values))[0])
        return before + index + 1, float(values[index])
