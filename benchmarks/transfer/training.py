"""Trainings of a transfer evaluation: on target vectors, and on the classes of another task."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn

from benchmarks.transfer.protocol import TransferProtocol
from ddoq.augmentation.shifts import draw_shifts, shift_and_flip
from ddoq.data import ImageDataModule
from ddoq.decoding.transform import Transform
from ddoq.images import to_float
from ddoq.optimisation.schedules import cosine_factor
from ddoq.optimisation.steps import StepLoop
from ddoq.seeding import derive_seed, generator_for
from ddoq.storage.checkpoints import Checkpoint
from ddoq.teachers.batches import DeviceSplit

_MOMENTUM = 0.9
_TEST_BATCH = 512


@dataclass(frozen=True)
class Training:
    """One training by gradient descent.

    Attributes:
        steps: How many.
        lr: Learning rate at the start.
        weight_decay: Decay of all weights.
        cosine: Whether the learning rate falls along a cosine to 0; otherwise it stays.
        seed: Decides dropout, where a network has it; with ``what``.
        what: What to call it in lines of progress and errors.
        mend: A sentence on what to try where it diverges.
    """

    steps: int
    lr: float
    weight_decay: float
    cosine: bool
    seed: int
    what: str
    mend: str


def descend(
    network: nn.Module,
    loss: Callable[[int], Tensor],
    training: Training,
    checkpoint: Checkpoint | None = None,
) -> float:
    """Train a network in place, from where a killed process left it.

    Args:
        network: On its device.
        loss: The loss of a step under the network as it is then.
        training: How.
        checkpoint: Where its state is kept; None keeps nothing.

    Returns:
        The loss of the last step.

    Raises:
        DivergedError: If a loss is not finite.
    """
    optimizer = torch.optim.SGD(
        network.parameters(), lr=training.lr, momentum=_MOMENTUM, weight_decay=training.weight_decay
    )
    last = torch.zeros(())

    def state() -> dict[str, Any]:
        return {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "loss": last}

    def restore(kept: Mapping[str, Any]) -> None:
        nonlocal last
        network.load_state_dict(kept["network"])
        optimizer.load_state_dict(kept["optimizer"])
        last = kept["loss"]

    loop = StepLoop(
        training.steps,
        state=state,
        restore=restore,
        checkpoint=checkpoint,
        what=training.what,
        mend=training.mend,
    )
    network.train().requires_grad_(True)
    with isolate_rng(), torch.enable_grad():
        for step in loop:
            if training.cosine:
                for group in optimizer.param_groups:
                    group["lr"] = training.lr * cosine_factor(step, training.steps)
            torch.manual_seed(derive_seed(training.seed, "transfer", training.what, step))
            value = loss(step)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            last = value.detach()
            loop.loss = last
    network.eval().requires_grad_(False)
    return float(last)


def pretrain(
    network: nn.Module,
    images: Tensor,
    targets: Tensor,
    protocol: TransferProtocol,
    seed: int,
    checkpoint: Checkpoint | None = None,
) -> float:
    """Let a network answer images with their target vectors, by squared error.

    Args:
        network: From images to vectors, on its device.
        images: Float ``(n, 3, h, w)``, as the network takes them, on the same device.
        targets: Float ``(n, d)``.
        protocol: How.
        seed: Decides the order.
        checkpoint: Where its state is kept.

    Returns:
        The loss of the last step.

    Raises:
        DivergedError: If a loss is not finite.
    """
    batches = len(_batches(torch.arange(len(images)), protocol.pretrain_batch_size))

    def loss(step: int) -> Tensor:
        epoch, number = divmod(step, batches)
        order = torch.randperm(
            len(images), generator=generator_for(seed, "transfer", "pretrain", epoch)
        )
        batch = _batches(order, protocol.pretrain_batch_size)[number].to(images.device)
        return F.mse_loss(network(images[batch]), targets[batch])

    training = Training(
        protocol.pretrain_epochs * batches,
        protocol.pretrain_lr,
        protocol.pretrain_weight_decay,
        cosine=False,
        seed=seed,
        what="pre-training",
        mend=f"Lower evaluation.transfer.pretrain_lr (now {protocol.pretrain_lr:g}).",
    )
    return descend(network, loss, training, checkpoint)


def _batches(order: Tensor, size: int) -> list[Tensor]:
    """Split an order; a last batch of one, which has no batch statistics, is left out."""
    batches = list(order.split(size))
    return batches[:-1] if len(batches) > 1 and len(batches[-1]) == 1 else batches


class Task:
    """A dataset with classes, as a network sees it.

    Args:
        data: The dataset, set up.
        transform: From pixels in [0, 1] to what networks take; None where they take pixels.
        device: Where networks are.
    """

    def __init__(
        self, data: ImageDataModule, transform: Transform | None, device: torch.device
    ) -> None:
        self.data = data
        self.transform = None if transform is None else transform.to(device)
        self.device = device
        self._splits: dict[str, DeviceSplit] = {}

    def inputs(self, pixels: Tensor) -> Tensor:
        """Map pixels, uint8 ``(b, 3, h, w)``, to what networks take."""
        images = to_float(pixels)
        return images if self.transform is None else self.transform.apply(images)

    def pixels(self, split: str, positions: Tensor) -> Tensor:
        """Return images of the split ``train`` or ``test``, uint8, on the device."""
        if split not in self._splits:
            self._splits[split] = DeviceSplit(getattr(self.data, split), self.device)
        return self._splits[split].take(positions)

    @torch.no_grad()
    def answers(self, network: nn.Module, split: str) -> tuple[Tensor, Tensor]:
        """Return what a network answers to a whole split, float32 ``(n, d)``, and the labels, on the device."""
        labels: Tensor = getattr(self.data, split).labels
        parts = [
            network(self.inputs(self.pixels(split, batch))).float().flatten(1)
            for batch in torch.arange(len(labels)).split(_TEST_BATCH)
        ]
        return torch.cat(parts), labels.to(self.device)

    def fine_tune(
        self,
        network: nn.Module,
        protocol: TransferProtocol,
        seed: int,
        checkpoint: Checkpoint | None = None,
    ) -> float:
        """Train a network on the classes of the dataset, by cross-entropy, and test it.

        Args:
            network: From images to logits, on the device.
            protocol: How.
            seed: Decides order, crops and flips.
            checkpoint: Where its state is kept.

        Returns:
            Share of test images classified correctly.

        Raises:
            DivergedError: If a loss is not finite.
        """
        labels = self.data.train.labels
        size = min(protocol.batch_size, len(labels))
        batches = len(labels) // size
        pad = self.data.image_size // 8 if protocol.crop_pad is None else protocol.crop_pad

        def loss(step: int) -> Tensor:
            epoch, number = divmod(step, batches)

            def generator(what: str, place: int) -> torch.Generator:
                return generator_for(seed, "transfer", "fine-tune", what, place)

            order = torch.randperm(len(labels), generator=generator("order", epoch))
            positions = order[number * size : (number + 1) * size]
            shifts = draw_shifts(size, pad, generator("shift", step)).to(self.device)
            flips = torch.rand(size, generator=generator("flip", step)) < 0.5 * protocol.hflip
            pixels = self.pixels("train", positions)
            pixels = shift_and_flip(pixels, shifts, flips.to(self.device), pad)
            return F.cross_entropy(network(self.inputs(pixels)), labels[positions].to(self.device))

        training = Training(
            protocol.iterations,
            protocol.lr,
            protocol.weight_decay,
            cosine=True,
            seed=seed,
            what="fine-tuning",
            mend=f"Lower evaluation.transfer.lr (now {protocol.lr:g}).",
        )
        descend(network, loss, training, checkpoint)
        logits, truth = self.answers(network, "test")
        return float((logits.argmax(dim=1) == truth).float().mean())
