"""Students at some steps of their training on real data, and the gradients of the data there."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ddoq.networks import build_network
from ddoq.networks.convnet import ConvNet, ConvNetShape
from ddoq.objectives.functional import Weights, weights_of
from ddoq.objectives.gradient_gap import (
    check_additive,
    cross_entropy,
    gradient_gap,
    gradient_slopes,
    weighted_gradients,
)
from ddoq.seeding import derive_seed, generator_for

LATENT_WIDTH = 128  # of the hidden layer on latents
MAP_DEPTH, MAP_WIDTH = 3, 16  # of the ConvNet on latents, at most
BATCH_SIZE = 128
LEARNING_RATE = 1e-3  # of Adam, at its other defaults
PAIRS = 64  # of a class, behind the estimate of the Lipschitz constant

Transform = Callable[[Tensor], Tensor]


def latent_network(values: int, num_classes: int, seed: int) -> nn.Module:
    """Make a smooth perceptron on latents of so many values."""
    return _drawn(
        lambda: nn.Sequential(
            nn.Flatten(),
            nn.Linear(values, LATENT_WIDTH),
            nn.GELU(),
            nn.Linear(LATENT_WIDTH, num_classes),
        ),
        derive_seed(seed, "theory", "latents"),
    )


def map_network(shape: Sequence[int], num_classes: int, seed: int) -> nn.Module | None:
    """Make a ConvNet on latents as maps, as deep as they allow up to the depth of that on images.

    Args:
        shape: Of a latent, ``(c, h, w)``.
        num_classes: Number of logits.
        seed: Decides the weights.

    Returns:
        The network; None where latents are no square maps of two pixels at least.
    """
    if len(shape) != 3 or shape[1] != shape[2] or shape[1] < 2:
        return None
    channels, side, _ = shape
    form = ConvNetShape(min(MAP_DEPTH, side.bit_length() - 1), MAP_WIDTH)
    return _drawn(
        lambda: ConvNet(form, num_classes, side, channels), derive_seed(seed, "theory", "maps")
    )


def image_network(arch: str, num_classes: int, image_size: int, seed: int) -> nn.Module:
    """Make a student on images.

    Raises:
        UserError: If there is no such network, or its loss on a set is no mean over images.
    """
    network = _drawn(
        lambda: build_network(arch, num_classes, image_size), derive_seed(seed, "theory", "images")
    )
    check_additive(network)
    return network


def _drawn(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return make()


@dataclass(frozen=True)
class RealData:
    """The training data of a probe.

    Attributes:
        classes: A tensor for each class: latents, or uint8 images.
        transform: Makes of them what the network takes.
    """

    classes: Sequence[Tensor]
    transform: Transform


@dataclass(frozen=True)
class Snapshot:
    """A student at a step of its training.

    Attributes:
        step: Steps behind it.
        weights: Its weights.
        real: Gradients of the mean loss of each class, ``(C, P)``.
        loss: Mean loss over the training data, classes alike.
    """

    step: int
    weights: Weights
    real: Tensor
    loss: float


class Probe:
    """A student that measures how far the gradient on weighted sets is from that on the data.

    Every class counts alike, as it does in a set with equally many images of each.

    Args:
        network: A network whose loss is a mean over samples, on the device of the data.
        data: The training data.
        checkpoints: Steps at which it is kept.
        seed: Decides the batches.
        name: What the batches are for, in their key.
        by_class: Whether the gaps of single classes are measured as well.
    """

    def __init__(
        self,
        network: nn.Module,
        data: RealData,
        checkpoints: Sequence[int],
        seed: int,
        name: str,
        *,
        by_class: bool = False,
    ) -> None:
        self._network = network
        self._by_class = by_class
        self._data = data
        self._generator_keys = (seed, "theory", name)
        self.snapshots: list[Snapshot] = []
        self._train(sorted(checkpoints))

    def _train(self, checkpoints: Sequence[int]) -> None:
        data = self._data
        samples = torch.cat(list(data.classes))
        sizes = torch.tensor([len(part) for part in data.classes])
        labels = torch.arange(len(sizes)).repeat_interleave(sizes).to(samples.device)
        optimizer = torch.optim.Adam(self._network.parameters(), lr=LEARNING_RATE)
        for step in range(max(checkpoints) + 1):
            if step in checkpoints:
                self.snapshots.append(self._snapshot(step))
            generator = generator_for(*self._generator_keys, "batch", step)
            rows = torch.randperm(len(samples), generator=generator)[:BATCH_SIZE]
            rows = rows.to(samples.device)
            loss = cross_entropy(self._network(data.transform(samples[rows])), labels[rows]).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def _snapshot(self, step: int) -> Snapshot:
        weights = weights_of(self._network)
        means = [torch.full((1, len(p)), 1 / len(p), device=p.device) for p in self._data.classes]
        real = torch.cat(self._gradients(weights, self._data.classes, means))
        losses = []
        with torch.no_grad():
            for label, part in enumerate(self._data.classes):
                logits = torch.cat(
                    [self._network(self._data.transform(b)) for b in part.split(BATCH_SIZE)]
                )
                losses.append(float(cross_entropy(logits, _labels(part, label)).mean()))
        return Snapshot(step, weights, real, sum(losses) / len(losses))

    def _gradients(
        self, weights: Weights, classes: Sequence[Tensor], shares: Sequence[Tensor]
    ) -> list[Tensor]:
        """Return for every class the gradients ``(W, P)`` of its weighted losses."""
        transform = self._data.transform
        return [
            weighted_gradients(
                self._network, weights, transform(part), _labels(part, label), share
            ).detach()
            for label, (part, share) in enumerate(zip(classes, shares, strict=True))
        ]

    def gaps(
        self, classes: Sequence[Tensor], shares: Mapping[str, Sequence[Tensor]]
    ) -> list[dict[str, Any]]:
        """Measure the gaps of weighted sets at every snapshot.

        Args:
            classes: The images or latents of a set, a tensor for each class.
            shares: For every weighting the weights within each class; they sum to 1.

        Returns:
            For every snapshot ``step`` and ``gaps``, by weighting: ``norm``, ``relative`` and ``cosine`` of the whole
            gradient, and with ``by_class`` ``class_norm``, the mean length of the gap of a single class.
        """
        stacked = [
            torch.stack([share[label] for share in shares.values()]).float().to(part.device)
            for label, part in enumerate(classes)
        ]
        lines = []
        for snapshot in self.snapshots:
            if self._by_class:
                single = torch.stack(self._gradients(snapshot.weights, classes, stacked))
                means = single.mean(0)
                norms = (single - snapshot.real[:, None]).norm(dim=2).mean(0)
            else:
                means = self._mean_gradients(snapshot.weights, classes, stacked)
            gaps = {}
            for number, name in enumerate(shares):
                gaps[name] = asdict(gradient_gap(snapshot.real.mean(0), means[number]))
                if self._by_class:
                    gaps[name]["class_norm"] = float(norms[number])
            lines.append({"step": snapshot.step, "gaps": gaps})
        return lines

    def _mean_gradients(
        self, weights: Weights, classes: Sequence[Tensor], shares: Sequence[Tensor]
    ) -> Tensor:
        """Return the gradients ``(W, P)`` of weighted losses over all classes, in as few passes as may be."""
        labels = torch.cat([_labels(part, label) for label, part in enumerate(classes)])
        return weighted_gradients(
            self._network,
            weights,
            self._data.transform(torch.cat(list(classes))),
            labels,
            torch.cat(list(shares), dim=1) / len(classes),
        ).detach()

    def lipschitz(self) -> list[float]:
        """Return at every snapshot the steepest slope of the gradient between two samples of a class.

        Pairs are random ones and nearest neighbours. It is a lower bound of the Lipschitz constant on the data.
        """
        steepest = []
        for snapshot in self.snapshots:
            slopes = []
            for label, part in enumerate(self._data.classes):
                generator = generator_for(*self._generator_keys, "pairs", label)
                order = torch.randperm(len(part), generator=generator)[: 2 * PAIRS].to(part.device)
                samples = self._data.transform(part[order])
                half = len(samples) // 2
                left = samples[:half]
                distances = torch.cdist(left.flatten(1), samples.flatten(1))
                distances[distances == 0] = float("inf")  # itself
                for right in (samples[half : 2 * half], samples[distances.argmin(1)]):
                    slopes.append(
                        gradient_slopes(
                            self._network, snapshot.weights, left, right, _labels(left, label)
                        ).max()
                    )
            steepest.append(float(torch.stack(slopes).max()))
        return steepest


def _labels(part: Tensor, label: int) -> Tensor:
    return torch.full((len(part),), label, device=part.device)
