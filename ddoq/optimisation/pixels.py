"""Synthetic images whose pixels are optimised as they are, without bounds."""

from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ddoq.errors import UserError, suggest

Init = Literal["real", "noise"]


class Pixels:
    """Images that gradient descent with momentum changes.

    Args:
        images: Float ``(n, 3, h, w)``, in the space that they are optimised in; they are copied.
        lr: Step size.
        momentum: In [0, 1); the heavy-ball kind, as ``torch.optim.SGD`` has it.

    Attributes:
        images: The images as they are now, a leaf that asks for gradients.

    Example:
        >>> pixels = Pixels(torch.zeros(1, 1, 1, 1), lr=0.5)
        >>> pixels.descend((pixels.images - 1).square().sum())  # the gradient is -2
        >>> pixels.images.item()
        1.0
    """

    def __init__(self, images: Tensor, lr: float, momentum: float = 0.0) -> None:
        self.images = images.detach().clone().requires_grad_()
        self._optimizer = torch.optim.SGD([self.images], lr=lr, momentum=momentum)

    def descend(self, loss: Tensor) -> None:
        """Take a step down a loss, a scalar that depends on the images; weights behind it get no gradient."""
        (self.images.grad,) = torch.autograd.grad(loss, [self.images])
        self._optimizer.step()
        self.images.grad = None

    def state(self) -> dict[str, Any]:
        """Return all that later steps depend on, for a checkpoint."""
        return {"images": self.images.detach(), "optimizer": self._optimizer.state_dict()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state; its tensors may be on another device."""
        with torch.no_grad():
            self.images.copy_(state["images"])
        self._optimizer.load_state_dict(dict(state["optimizer"]))

    def result(self) -> Tensor:
        """Return the images, float32 on the CPU.

        Raises:
            UserError: If the optimisation has diverged.
        """
        images = self.images.detach().float().cpu()
        if not bool(torch.isfinite(images).all()):
            raise UserError(
                "The synthetic images have diverged (NaN or infinity): lower the learning rate of the images."
            )
        return images


def initial_images(real: Tensor, count: int, *, init: Init, generator: torch.Generator) -> Tensor:
    """Make the images that an optimisation of one class starts from.

    Args:
        real: Float ``(n, 3, h, w)``, the real images of the class in the space of the optimisation.
        count: How many images, at most n where they start from real ones.
        init: ``real`` draws real images without replacement, ``noise`` standard normal pixels.
        generator: CPU generator.

    Returns:
        Float ``(count, 3, h, w)``, on the device of ``real``.

    Raises:
        UserError: If ``init`` is unknown, or there are too few real images.

    Example:
        >>> real = torch.arange(3.0).reshape(3, 1, 1, 1)
        >>> sorted(initial_images(real, 3, init="real", generator=torch.Generator()).flatten().tolist())
        [0.0, 1.0, 2.0]
    """
    check_init(init)
    if init == "noise":
        noise = torch.randn(count, *real.shape[1:], generator=generator)
        return noise.to(real)
    if count > len(real):
        raise UserError(
            f"{count} synthetic images of a class cannot start from its {len(real)} real ones: lower ipc, or start "
            "from noise."
        )
    return real[draw_batch(len(real), count, generator).to(real.device)]


def check_init(init: str) -> None:
    """Refuse an unknown way to start.

    Raises:
        UserError: Naming the ways there are.
    """
    if init not in get_args(Init):
        raise UserError(f"Unknown init {init!r}. {suggest(init, get_args(Init))}")


def draw_batch(n: int, size: int, generator: torch.Generator) -> Tensor:
    """Draw positions without replacement: int64 ``(min(size, n),)``, in random order.

    Example:
        >>> draw_batch(2, 256, torch.Generator()).sort().values
        tensor([0, 1])
    """
    return torch.randperm(n, generator=generator)[:size]
