"""The training of a style-based generator against its discriminator."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn

from ddoq.bounds import check_number
from ddoq.data.base import ImageDataModule
from ddoq.images import to_float
from ddoq.optimisation.fitting import CURVE_POINTS
from ddoq.optimisation.steps import StepLoop
from ddoq.priors.generators.style import Discriminator, StyleGenerator, StyleShape
from ddoq.seeding import derive_seed, generator_for
from ddoq.storage.checkpoints import Checkpoint
from ddoq.teachers.batches import fits, load_split

_BETAS = (0.0, 0.99)  # of Adam, as in StyleGAN2


@dataclass(frozen=True)
class StyleTraining:
    """How it is trained.

    Attributes:
        steps: Of both networks.
        batch_size: Real images, and made ones, a step.
        lr: Of Adam, for both.
        r1: Weight of the squared gradient of the discriminator at real images.
        r1_interval: Steps from one of these penalties to the next, which counts so often.
        ema: What the average of the generator's weights keeps of itself in a step, less in the first ones; the average is
            the generator.
        hflip: Whether half of the real images are mirrored.
        seed: Decides weights, images and noise.
    """

    steps: int
    batch_size: int
    lr: float
    r1: float
    r1_interval: int
    ema: float
    hflip: bool
    seed: int

    def check(self, prefix: str) -> None:
        """Refuse values that no training could use.

        Args:
            prefix: What stands before their names in errors.

        Raises:
            UserError: Naming the setting and its bounds.
        """
        for name, least in (("steps", 1), ("batch_size", 2), ("r1_interval", 1), ("r1", 0)):
            check_number(f"{prefix}.{name}", getattr(self, name), at_least=least)
        check_number(f"{prefix}.lr", self.lr, above=0)
        check_number(f"{prefix}.ema", self.ema, at_least=0, below=1)


def generator_loss(made: Tensor) -> Tensor:
    """Return the non-saturating loss of a generator, from the logits of what it made, float ``(n,)``.

    Example:
        >>> generator_loss(torch.tensor([0.0])).item() == torch.tensor(2.0).log().item()
        True
    """
    return F.softplus(-made).mean()


def discriminator_loss(real: Tensor, made: Tensor) -> Tensor:
    """Return the loss of a discriminator, from the logits of real images and of made ones, float ``(n,)``."""
    return F.softplus(-real).mean() + F.softplus(made).mean()


def r1_penalty(logits: Tensor, images: Tensor) -> Tensor:
    r"""Return :math:`\frac12 \mathbb{E} \|\nabla_x D(x)\|^2` (Mescheder et al., ICML 2018), differentiably.

    Args:
        logits: Float ``(n,)``, of real images.
        images: These, float ``(n, 3, h, w)``, which asked for gradients.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return 0.5 * gradient.square().sum(dim=(1, 2, 3)).mean()


def average_decay(number: int, most: float) -> float:
    """Return what the average of weights keeps of itself in a step: little at first, so that it forgets how they began.

    Args:
        number: Of the step, from 0 on.
        most: In the long run.

    Example:
        >>> [round(average_decay(number, 0.95), 2) for number in (0, 8, 80, 800)]
        [0.1, 0.5, 0.9, 0.95]
    """
    return min(most, (1 + number) / (10 + number))


class StyleGame:
    """Generator, its average, discriminator and their optimisers; every draw is keyed by seed and step.

    Args:
        shape: The structure.
        training: How to train.
        data: The dataset, set up.
        device: Where.

    Attributes:
        average: The generator with averaged weights.
        losses: Of all steps so far: of the discriminator and of the generator.
    """

    def __init__(
        self,
        shape: StyleShape,
        training: StyleTraining,
        data: ImageDataModule,
        device: torch.device,
    ) -> None:
        with isolate_rng():
            torch.manual_seed(derive_seed(training.seed, "style", "weights"))
            self._generator = StyleGenerator(shape, training.seed).to(device)
            self._discriminator = Discriminator(shape).to(device)
        self.average = copy.deepcopy(self._generator).requires_grad_(False)
        self.losses: list[Tensor] = []
        self._training = training
        self._device = device
        self._split = data.train
        side = data.image_size
        whole = fits(len(data.train) * 3 * side * side, device)
        self._resident = load_split(data.train).to(device) if whole else None
        self._optimizers = [
            torch.optim.Adam(network.parameters(), lr=training.lr, betas=_BETAS)
            for network in (self._generator, self._discriminator)
        ]

    def step(self, number: int) -> Tensor:
        """Train the discriminator on a batch, then the generator; return the sum of both losses."""
        images, labels = self._real(number)
        with torch.enable_grad():
            lost = self._judge(number, images, labels)
            made = self._made(number, "generator", labels)
            wanted = generator_loss(self._discriminator(made, labels))
            self._descend(0, wanted)
        self._average(number)
        self.losses.append(torch.stack([lost, wanted.detach()]))
        return self.losses[-1].sum()

    def _judge(self, number: int, images: Tensor, labels: Tensor) -> Tensor:
        """Train the discriminator."""
        training = self._training
        penalised = training.r1 > 0 and number % training.r1_interval == 0
        images = images.requires_grad_(penalised)
        real = self._discriminator(images, labels)
        with torch.no_grad():
            made = self._made(number, "discriminator", labels)
        loss = discriminator_loss(real, self._discriminator(made, labels))
        whole = loss
        if penalised:
            whole = loss + training.r1 * training.r1_interval * r1_penalty(real, images)
        self._descend(1, whole)
        return loss.detach()

    def _descend(self, which: int, loss: Tensor) -> None:
        """Take a step of one network; the other's gradients are not computed."""
        network: nn.Module = (self._generator, self._discriminator)[which]
        weights = list(network.parameters())
        gradients = torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True)
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient
        self._optimizers[which].step()
        self._optimizers[which].zero_grad()

    @torch.no_grad()
    def _average(self, number: int) -> None:
        keep = average_decay(number, self._training.ema)
        pairs = zip(self.average.parameters(), self._generator.parameters(), strict=True)
        for kept, weight in pairs:
            kept.lerp_(weight, 1 - keep)

    def _real(self, number: int) -> tuple[Tensor, Tensor]:
        """Draw real images with their labels, with replacement, some of them mirrored."""
        training = self._training
        generator = generator_for(training.seed, "style", "batch", number)
        positions = torch.randint(len(self._split), (training.batch_size,), generator=generator)
        if self._resident is None:
            stored = self._split.load(positions.tolist()).to(self._device)
        else:
            stored = self._resident[positions.to(self._device)]
        images = to_float(stored)
        if training.hflip:
            mirrored = torch.rand(len(images), generator=generator) < 0.5
            images = torch.where(
                mirrored.to(self._device)[:, None, None, None], images.flip(3), images
            )
        return images, self._split.labels[positions].to(self._device)

    def _made(self, number: int, purpose: str, labels: Tensor) -> Tensor:
        """Make an image of each class."""
        generator = generator_for(self._training.seed, "style", purpose, number)
        count = len(labels)
        numbers = torch.randn(count, self._generator.shape.noise_width, generator=generator)
        noises = [
            torch.randn(count, *shape, generator=generator).to(self._device)
            for shape in self._generator.noise_shapes()
        ]
        made: Tensor = self._generator(labels, numbers.to(self._device), noises)
        return made

    def state(self) -> dict[str, Any]:
        """Return all that later steps depend on, and the losses."""
        networks = (self._generator, self._discriminator, self.average)
        return {
            "networks": [network.state_dict() for network in networks],
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
            "losses": self.losses,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        networks = (self._generator, self._discriminator, self.average)
        for network, kept in zip(networks, state["networks"], strict=True):
            network.load_state_dict(kept)
        for optimizer, kept in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        self.losses = list(state["losses"])


def train_style(
    shape: StyleShape,
    training: StyleTraining,
    data: ImageDataModule,
    *,
    device: torch.device,
    checkpoint: Checkpoint | None = None,
    mend: str = "Lower its learning rate.",
) -> tuple[StyleGenerator, dict[str, Any]]:
    """Train a generator on the training split, from where a killed process left it.

    Args:
        shape: The structure.
        training: How.
        data: The dataset, set up.
        device: Where.
        checkpoint: Where the state is kept; None keeps nothing.
        mend: A sentence on what to try where it diverges.

    Returns:
        The generator with averaged weights, in evaluation mode, on the CPU; and the mean losses of discriminator and
        generator over up to 50 stretches, as JSON values.

    Raises:
        DivergedError: If losses or weights are not finite.
    """
    game = StyleGame(shape, training, data, device)
    loop = StepLoop(
        training.steps,
        state=game.state,
        restore=game.restore,
        checkpoint=checkpoint,
        what="style-based generator",
        mend=mend,
    )
    for number in loop:
        loop.loss = game.step(number)
    curve = torch.stack([losses.float().cpu() for losses in game.losses])
    parts = curve.tensor_split(min(CURVE_POINTS, len(curve)))
    means = torch.stack([part.mean(dim=0) for part in parts])
    record = {"discriminator": means[:, 0].tolist(), "generator": means[:, 1].tolist()}
    return game.average.cpu().eval(), record
