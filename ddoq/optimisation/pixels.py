"""What images are optimised through; here the pixels as they are, without bounds."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ddoq.finite import check_images


class Parameterisation(ABC):
    """Synthetic images, and what a gradient by them changes: themselves, or what they are made of.

    Attributes:
        images: The images as they are now, float ``(n, 3, h, w)``, in the space that they are matched in: a leaf that asks
            for gradients. A step may put another tensor in its place.
        loss: The loss of the last step, before it was taken; 0 at first.
        fixed: How many of them, the first, stay as they are: they count in losses, and their gradient is zero.
    """

    images: Tensor
    loss: Tensor
    fixed: int = 0
    mend: str = "lower the learning rate of the images (model.init_args.lr)"

    @abstractmethod
    def follow(self, gradient: Tensor, loss: Tensor) -> None:
        """Take a step against a gradient, of the images' shape, that was computed at some loss."""

    @abstractmethod
    def coast(self, steps: int) -> None:
        """Let momentum alone take steps, as under an optimiser that holds other images, too, while those take theirs.

        Args:
            steps: How many steps of a zero gradient.
        """

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Return all that later steps depend on, for a checkpoint."""

    @abstractmethod
    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state; its tensors may be on another device."""

    def info(self) -> dict[str, Any]:
        """Return what the record of a shard shall say of how it went (JSON values)."""
        return {}

    def descend(self, loss: Tensor) -> None:
        """Take a step down a loss, a scalar that depends on the images; weights behind it get no gradient."""
        (gradient,) = torch.autograd.grad(loss, [self.images])
        self.follow(gradient, loss)

    def result(self) -> Tensor:
        """Return the images that are not fixed, float32 on the CPU.

        Raises:
            NotFiniteError: If the optimisation has diverged.
        """
        images = self.images.detach()[self.fixed :].float().cpu()
        check_images(images, "The synthetic images", f"They have diverged: {self.mend}.")
        return images


class Pixels(Parameterisation):
    """Images that gradient descent with momentum changes.

    Args:
        images: Float ``(n, 3, h, w)``, in the space that they are optimised in; they are copied.
        lr: Step size.
        momentum: In [0, 1); the heavy-ball kind, as ``torch.optim.SGD`` has it.
        fixed: How many of them, the first, stay as they are: they count in losses, and their gradient is zero.

    Example:
        >>> pixels = Pixels(torch.zeros(1, 1, 1, 1), lr=0.5)
        >>> pixels.descend((pixels.images - 1).square().sum())  # the gradient is -2
        >>> pixels.images.item()
        1.0
    """

    def __init__(self, images: Tensor, lr: float, momentum: float = 0.0, fixed: int = 0) -> None:
        self.images = images.detach().clone().requires_grad_()
        self.loss = torch.zeros((), device=images.device)
        self.fixed = fixed
        self._optimizer = torch.optim.SGD([self.images], lr=lr, momentum=momentum)

    def follow(self, gradient: Tensor, loss: Tensor) -> None:
        """Take a step against a gradient, of the images' shape, that was computed at some loss."""
        if self.fixed:
            gradient = gradient.clone()
            gradient[: self.fixed] = 0
        self.images.grad = gradient
        self._optimizer.step()
        self.images.grad = None
        self.loss = loss.detach()

    def coast(self, steps: int) -> None:
        """Let momentum alone take steps, as under an optimiser that holds other images, too, while those take theirs.

        Args:
            steps: How many steps of a zero gradient; they are taken at once.

        Example:
            >>> pixels = Pixels(torch.zeros(1, 1, 1, 1), lr=1.0, momentum=0.5)
            >>> pixels.descend(pixels.images.sum())  # by -1, and then by -1/2 and -1/4
            >>> pixels.coast(2)
            >>> pixels.images.item()
            -1.75
        """
        (group,) = self._optimizer.param_groups
        velocity = self._optimizer.state[self.images].get("momentum_buffer")
        momentum: float = group["momentum"]
        if velocity is None or not momentum:
            return
        left = momentum**steps
        with torch.no_grad():
            self.images.sub_(velocity, alpha=group["lr"] * momentum * (1 - left) / (1 - momentum))
            velocity.mul_(left)

    def state(self) -> dict[str, Any]:
        """Return all that later steps depend on, for a checkpoint."""
        return {
            "images": self.images.detach(),
            "optimizer": self._optimizer.state_dict(),
            "loss": self.loss,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state; its tensors may be on another device."""
        with torch.no_grad():
            self.images.copy_(state["images"])
        self._optimizer.load_state_dict(dict(state["optimizer"]))
        self.loss = state["loss"].to(self.images.device)
