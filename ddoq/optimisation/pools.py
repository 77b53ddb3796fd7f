"""Pools of networks of different ages, under which synthetic images are matched with real ones."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddoq.objectives.functional import as_student

# Makes the optimiser of a network's weights.
OptimizerOf = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


class _Learner:
    """A network that is asked for features, and learns now and then.

    Args:
        number: How many networks were drawn before it.
        network: On its device.
        optimizer: Of its weights.
    """

    def __init__(self, number: int, network: nn.Module, optimizer: OptimizerOf) -> None:
        self.number = number
        self.network = network.eval().requires_grad_(False)
        self._weights = list(network.parameters())
        self._optimizer = optimizer(self._weights)

    def _descend(self, images: Tensor, loss: Callable[[Tensor], Tensor]) -> Tensor:
        """Take a step down a loss of what the network answers to images, and return its answers."""
        self.network.requires_grad_(True)
        answers: Tensor = self.network(images)
        gradients = torch.autograd.grad(loss(answers), self._weights)
        self.network.requires_grad_(False)
        for weight, gradient in zip(self._weights, gradients, strict=True):
            weight.grad = gradient
        self._optimizer.step()
        self._optimizer.zero_grad()
        return answers


class PooledNetwork(_Learner):
    """A classifier that learns from real images now and then.

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
        descent = partial(torch.optim.SGD, lr=lr, momentum=momentum, weight_decay=weight_decay)
        super().__init__(number, network, descent)
        self.seen = 0
        self.correct = torch.zeros((), dtype=torch.int64, device=self._weights[0].device)

    @property
    def accuracy(self) -> Tensor:
        """Share of the images seen that it classified correctly, a scalar in [0, 1]; 0 before it has seen any."""
        return self.correct / max(self.seen, 1)

    def learn(self, images: Tensor, labels: Tensor) -> None:
        """Take a step down the cross-entropy of a batch, float ``(b, 3, h, w)``, with labels int64 ``(b,)``."""
        logits = self._descend(images, partial(F.cross_entropy, target=labels))
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


class AgedNetwork(_Learner):
    """A network that learns from the distilled images, until it is too old.

    Args:
        number: How many networks were drawn before it.
        network: From images to targets, on its device.
        optimizer: Of its weights.
        age: What its counter starts from.

    Attributes:
        number: As given.
        network: In evaluation mode, so that batch norm takes what it remembers; its weights ask for no gradients.
        age: Its counter.
    """

    def __init__(self, number: int, network: nn.Module, optimizer: OptimizerOf, age: int) -> None:
        super().__init__(number, network, optimizer)
        self.age = age

    def learn(self, images: Tensor, targets: Tensor) -> None:
        """Take a step down the mean squared error; batch norm takes the statistics of the batch and remembers them.

        Args:
            images: Float ``(b, 3, h, w)``.
            targets: Float ``(b, k)``.
        """
        as_student(self.network)
        self._descend(images, partial(F.mse_loss, target=targets))
        self.network.eval()

    def state(self) -> dict[str, Any]:
        """Return all that later steps depend on."""
        return {
            "number": self.number,
            "age": self.age,
            "network": dict(self.network.state_dict()),
            "optimizer": self._optimizer.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state; its tensors may be on another device."""
        self.network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(dict(state["optimizer"]))


class ResetAtAge:
    """A pool of a fixed size whose networks learn after every use, and make way for fresh ones where they are too old.

    Source: Y. Zhou, E. Nezhadarya and J. Ba, *Dataset Distillation using Neural Feature Regression*, NeurIPS 2022.

    Args:
        draw: Makes the network of a number, on its device: its weights must follow from the number alone. Nothing in it
            draws while it learns: dropout is off.
        optimizer: Makes the optimiser of a network's weights.
        ages: What the counters of the first networks start from: a network each. See :func:`staggered`.
        limit: The counter that a network may not exceed; at least 0.
        faithful: Whether the counter of a network's place keeps its value where a fresh one comes into it, as in the
            code that KRR-ST was released with: from its first reset on, that place gets a fresh network after every use,
            and none of these ever learns.

    Attributes:
        members: The networks as they are now.
        drawn: How many networks there have been.

    Example:
        >>> descent = partial(torch.optim.SGD, lr=0.1)
        >>> pool = ResetAtAge(lambda _: nn.Linear(2, 1), descent, ages=[0, 1], limit=1)
        >>> for _ in range(3):
        ...     pool.use(1, torch.ones(1, 2), torch.ones(1, 1))
        >>> [(member.number, member.age) for member in pool.members]
        [(0, 0), (2, 1)]
    """

    def __init__(
        self,
        draw: Callable[[int], nn.Module],
        optimizer: OptimizerOf,
        *,
        ages: Sequence[int],
        limit: int,
        faithful: bool = False,
    ) -> None:
        self._draw = draw
        self._optimizer = optimizer
        self._limit = limit
        self._faithful = faithful
        self.members = [self._new(number, age) for number, age in enumerate(ages)]
        self.drawn = len(self.members)

    def warm_up(self, batch: Callable[[int, int], tuple[Tensor, Tensor]]) -> None:
        """Let the first networks take as many steps as their counters say.

        Args:
            batch: Gives images and targets for the place of a network and the number of its step.
        """
        for place, member in enumerate(self.members):
            for step in range(member.age):
                member.learn(*batch(place, step))

    def pick(self, generator: torch.Generator) -> int:
        """Draw the place of a network.

        Args:
            generator: CPU generator.
        """
        return int(torch.randint(len(self.members), (), generator=generator))

    def use(self, place: int, images: Tensor, targets: Tensor) -> None:
        """End the use of a network: it learns once, or a fresh one takes its place.

        Args:
            place: In the pool.
            images: Float ``(b, 3, h, w)``, distilled; without gradient.
            targets: Of these, float ``(b, k)``.
        """
        member = self.members[place]
        if member.age <= self._limit:
            member.learn(images, targets)
            member.age += 1
            return
        self.members[place] = self._new(self.drawn, member.age if self._faithful else 0)
        self.drawn += 1

    def state(self) -> dict[str, Any]:
        """Return all that later steps depend on: networks, optimisers and counters."""
        return {"drawn": self.drawn, "members": [member.state() for member in self.members]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state; its tensors may be on another device."""
        self.drawn = state["drawn"]
        self.members = [self._new(part["number"], part["age"]) for part in state["members"]]
        for member, part in zip(self.members, state["members"], strict=True):
            member.restore(part)

    def _new(self, number: int, age: int) -> AgedNetwork:
        return AgedNetwork(number, self._draw(number), self._optimizer, age)


def staggered(size: int, limit: int) -> list[int]:
    """Spread counters evenly below a limit, so that networks do not all make way at once.

    Example:
        >>> staggered(4, 100)
        [0, 25, 50, 75]
    """
    return [place * limit // size for place in range(size)]
