"""Several tensors, such as images and their labels, that one optimiser of the library changes under a schedule."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ddoq.errors import UserError, suggest

OptimizerName = Literal["lamb", "adam"]


class Learned:
    """Tensors that gradients change, all at the same rate.

    Args:
        tensors: By name, float; they are copied.
        optimizer: Makes the optimiser of a list of tensors, at the rate of a factor of 1.
        factor: What the rate is multiplied by in a step, from its number.

    Attributes:
        tensors: As they are now, leaves that ask for gradients.
        loss: The loss of the last step, before it was taken; 0 at first.

    Example:
        >>> descent = lambda tensors: torch.optim.SGD(tensors, lr=0.5)
        >>> learned = Learned({"x": torch.zeros(1), "y": torch.ones(1)}, descent, lambda step: 1 / (step + 1))
        >>> for step in range(2):
        ...     learned.descend(learned.tensors["x"].sum() - learned.tensors["y"].sum(), step)
        >>> learned.tensors["x"].item(), learned.tensors["y"].item()
        (-0.75, 1.75)
    """

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        optimizer: Callable[[list[Tensor]], torch.optim.Optimizer],
        factor: Callable[[int], float],
    ) -> None:
        self.tensors = {name: t.detach().clone().requires_grad_() for name, t in tensors.items()}
        leaves = list(self.tensors.values())
        self.loss = torch.zeros((), device=leaves[0].device)
        self._optimizer = optimizer(leaves)
        self._rates: list[float] = [group["lr"] for group in self._optimizer.param_groups]
        self._factor = factor

    def descend(self, loss: Tensor, step: int) -> None:
        """Take a step down a loss that depends on all tensors; weights behind it get no gradient.

        Args:
            loss: A scalar.
            step: Its number, for the schedule.
        """
        leaves = list(self.tensors.values())
        for leaf, gradient in zip(leaves, torch.autograd.grad(loss, leaves), strict=True):
            leaf.grad = gradient
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * self._factor(step)
        self._optimizer.step()
        self._optimizer.zero_grad()
        self.loss = loss.detach()

    def state(self) -> dict[str, Any]:
        """Return all that later steps depend on, for a checkpoint."""
        return {
            "tensors": {name: tensor.detach() for name, tensor in self.tensors.items()},
            "optimizer": self._optimizer.state_dict(),
            "loss": self.loss,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state; its tensors may be on another device."""
        with torch.no_grad():
            for name, tensor in self.tensors.items():
                tensor.copy_(state["tensors"][name])
        self._optimizer.load_state_dict(dict(state["optimizer"]))
        self.loss = state["loss"].to(self.loss.device)


def optimizer_of(tensors: list[Tensor], *, name: OptimizerName, lr: float) -> torch.optim.Optimizer:
    """Make an optimiser without weight decay.

    Args:
        tensors: What it changes.
        name: ``adam``, or ``lamb``: Adam's step of each tensor, as long as the tensor times the rate (You et al., *Large
            Batch Optimization for Deep Learning*, ICLR 2020), so that a rate is a share of what it changes. Gradients are not
            clipped.
        lr: Rate.

    Raises:
        UserError: If there is none of that name.

    Example:
        >>> x = torch.full((4,), 2.0, requires_grad=True)
        >>> optimizer = optimizer_of([x], name="lamb", lr=0.1)
        >>> x.grad = torch.ones(4)
        >>> optimizer.step()
        >>> x[0].item()  # a tenth shorter
        1.7999999523162842
    """
    if name not in get_args(OptimizerName):
        raise UserError(f"Unknown optimizer {name!r}. {suggest(name, get_args(OptimizerName))}")
    if name == "adam":
        return torch.optim.Adam(tensors, lr=lr)
    from timm.optim import Lamb  # takes a second or two: only where it is asked for

    settings = {"weight_decay": 0.0, "max_grad_norm": None, "always_adapt": True}
    lamb: torch.optim.Optimizer = Lamb(tensors, lr=lr, **settings)
    return lamb
