"""Pools of networks of different ages, under which synthetic images are matched with real ones."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PooledNetwork:
    """A network that learns from real images now and then.

    Args:
        number: How many networks were drawn before it.
        network: A classifier, on its device.
        lr: Step size of its gradient descent.
        momentum: Of that.
        weight_decay: Of that.

    Attributes:
        number: As given.
        network: The classifier, in evaluation mode; its weights ask for no gradients.
        seen: Images that it has learnt from.
        correct: How many of them it classified correctly before it learnt from them, int64 scalar.
    """

    def __init__(
        self, number: int, network: nn.Module, lr: float, momentum: float, weight_decay: float
    ) -> None:
        self.number = number
        self.network = network.eval().requires_grad_(False)
        self._weights = list(network.parameters())
        self._optimizer = torch.optim.SGD(
            self._weights, lr=lr, momentum=momentum, weight_decay=weight_decay
        )
        self.seen = 0
        self.correct = torch.zeros((), dtype=torch.int64, device=self._weights[0].device)

    @property
    def accuracy(self) -> Tensor:
        """Share of the images seen that it classified correctly, a scalar in [0, 1]; 0 before it has seen any."""
        return self.correct / max(self.seen, 1)

    def learn(self, images: Tensor, labels: Tensor) -> None:
        """Take a step down the cross-entropy of a batch, float ``(b, 3, h, w)``, with labels int64 ``(b,)``."""
        self.network.requires_grad_(True)
        logits = self.network(images)
        gradients = torch.autograd.grad(F.cross_entropy(logits, labels), self._weights)
        self.network.requires_grad_(False)
        for weight, gradient in zip(self._weights, gradients, strict=True):
            weight.grad = gradient
        self._optimizer.step()
        self._optimizer.zero_grad()
        self.correct += (logits.argmax(dim=1) == labels).sum()
        self.seen += len(labels)

    def counts(self) -> Tensor:
        """Return number and what was counted, int64 ``(3,)``."""
        head = torch.tensor([self.number, self.seen], device=self.correct.device)
        return torch.cat([head, self.correct.reshape(1)])

    def values(self) -> Tensor:
        """Return weights and velocities, float32 ``(2, p)``; velocities are 0 before the first step."""
        state = self._optimizer.state
        velocities = [
            state[weight].get("momentum_buffer", torch.zeros_like(weight))
            if weight in state
            else torch.zeros_like(weight)
            for weight in self._weights
        ]
        parts = (self._weights, velocities)
        return torch.stack([torch.cat([tensor.flatten() for tensor in part]) for part in parts])

    def restore(self, counts: Tensor, values: Tensor) -> None:
        """Go on from what :meth:`counts` and :meth:`values` returned, on any device."""
        _, self.seen, correct = counts.tolist()
        self.correct.fill_(correct)
        sizes = [weight.numel() for weight in self._weights]
        weights, velocities = (row.split(sizes) for row in values)
        for weight, value, velocity in zip(self._weights, weights, velocities, strict=True):
            weight.copy_(value.reshape(weight.shape))
            if self.seen:
                moved = torch.empty_like(weight).copy_(velocity.reshape(weight.shape))
                self._optimizer.state[weight]["momentum_buffer"] = moved


class FirstInFirstOut:
    """A pool that a fresh network joins every so many steps, and that the oldest one leaves where it is full.

    Source: G. Zhao, G. Li, Y. Qin and Y. Yu, *Improved Distribution Matching for Dataset Condensation*, CVPR 2023.

    Args:
        draw: Makes the network of a number: its weights must follow from the number alone.
        start: Networks at first, 1 or more.
        interval: Steps between two that join.
        size: The most that it holds, at least ``start``.
        lr: Step size of the networks' training.
        momentum: Of that.
        weight_decay: Of that.

    Example:
        >>> pool = FirstInFirstOut(lambda _: nn.Linear(2, 2), start=1, interval=2, size=2, lr=0.1)
        >>> for step in range(7):
        ...     pool.advance(step)
        >>> [member.number for member in pool.members]
        [2, 3]
    """

    def __init__(
        self,
        draw: Callable[[int], nn.Module],
        *,
        start: int,
        interval: int,
        size: int,
        lr: float,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
    ) -> None:
        self._draw = draw
        self._interval = interval
        self._size = size
        self._settings = (lr, momentum, weight_decay)
        self.members = [self._new(number) for number in range(start)]

    def advance(self, step: int) -> None:
        """Begin a step: at every ``interval``-th but the first a fresh network joins."""
        if step and step % self._interval == 0:
            self.members.append(self._new(self.members[-1].number + 1))
            del self.members[: -self._size]

    def pick(self, count: int, generator: torch.Generator) -> list[PooledNetwork]:
        """Draw members without replacement, all where there are fewer.

        Args:
            count: How many.
            generator: CPU generator.
        """
        order = torch.randperm(len(self.members), generator=generator)[:count]
        return [self.members[position] for position in order.tolist()]

    def accuracy(self) -> float:
        """Return the mean accuracy of those members that have learnt, 0 where none has."""
        trained = [float(member.accuracy) for member in self.members if member.seen]
        return sum(trained) / max(len(trained), 1)

    def state(self) -> tuple[Tensor, Tensor]:
        """Return all that later steps depend on: int64 ``(k, 3)`` and float32 ``(k, 2, p)``."""
        counts = torch.stack([member.counts() for member in self.members])
        return counts, torch.stack([member.values() for member in self.members])

    def restore(self, counts: Tensor, values: Tensor) -> None:
        """Go on from a state, on any device."""
        self.members = [self._new(number) for number in counts[:, 0].tolist()]
        for member, count, value in zip(self.members, counts, values, strict=True):
            member.restore(count, value)

    def _new(self, number: int) -> PooledNetwork:
        return PooledNetwork(number, self._draw(number), *self._settings)
