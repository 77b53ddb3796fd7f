"""What parts of a run compute in, whatever the trainer around them has chosen for a student."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Literal, get_args

import torch

from ddoq.errors import UserError

# What training and distillation can compute in, under Lightning's names; weights and images are float32 in both.
Precision = Literal["32-true", "bf16-mixed"]

_DEVICES = ("cpu", "cuda", "mps", "xpu")


@contextmanager
def without_autocast() -> Iterator[None]:
    """Compute in the dtypes of tensors: without autocast, and with float32 as the dtype of new tensors.

    Lightning sets the one under mixed precisions and the other under ``bf16-true``, ``16-true`` and ``64-true``, for all
    that is called inside a step: a teacher, a prior and an augmentation as well as the network that is trained.

    Example:
        >>> a = torch.ones(2, 2)
        >>> with torch.autocast("cpu", dtype=torch.bfloat16):
        ...     with without_autocast():
        ...         inner = (a @ a).dtype
        ...     inner, (a @ a).dtype
        (torch.float32, torch.bfloat16)
    """
    before = torch.get_default_dtype()
    with ExitStack() as stack:
        for device in _DEVICES:
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(before)


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Compute in a precision, as Lightning's trainer does it.

    Args:
        device: Where.
        precision: ``32-true`` switches autocast off.
    """
    # Weights change between steps, so that copies in bfloat16 are not kept.
    return torch.autocast(
        device.type,
        dtype=torch.bfloat16,
        enabled=precision == "bf16-mixed",
        cache_enabled=False,
    )


def check_precision(key: str, value: str) -> None:
    """Refuse what neither training nor distillation can compute in.

    Args:
        key: What to call it, e.g. ``teacher.precision``.
        value: See :data:`Precision`.

    Raises:
        UserError: If it is another one.
    """
    if value not in get_args(Precision):
        raise UserError(f"{key} must be {' or '.join(get_args(Precision))}, not {value}.")
