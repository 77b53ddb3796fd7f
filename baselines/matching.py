"""What methods share that match real and synthetic images of each class under networks of random weights."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from baselines.pixels import FirstImages, PixelMethod, new_images
from ddoq.augmentation.siamese import FULL_STRATEGY, augment_siamese, draw_siamese, parse_strategy
from ddoq.costs.flops import count_flops, on_meta
from ddoq.costs.stages import device_of, network_stage, training_stage
from ddoq.costs.workload import Sizes, Stage, image_bytes
from ddoq.data import ImageDataModule
from ddoq.decoding.form import SetForm, SetRecipe
from ddoq.decoding.transform import Transform
from ddoq.distillation.shard import Shard, WorkItem, check_budget, class_items
from ddoq.distillation.stages import Earlier, WarmUp
from ddoq.distillation.tables import ByBudget, look_up
from ddoq.errors import UserError
from ddoq.networks import draw_network, penultimate
from ddoq.networks.features import classifier_of
from ddoq.objectives.features import Statistic
from ddoq.optimisation.pixels import Parameterisation
from ddoq.optimisation.real_images import Init, RealImages, check_init
from ddoq.optimisation.steps import StepLoop
from ddoq.seeding import generator_for
from ddoq.selection.sampling import Drawn

# From a network, real and synthetic images of a class to a scalar that is differentiated by the latter.
Gap = Callable[[nn.Module, Tensor, Tensor], Tensor]


def siamese_recipe(strategy: str) -> SetRecipe:
    """Return how the authors of this family train students.

    Args:
        strategy: Siamese augmentation, kinds joined by underscores; ``none`` for none.

    Example:
        >>> siamese_recipe("none").name, siamese_recipe("crop_rotate").overrides
        ('dc', {'siamese': 'crop_rotate'})
    """
    if strategy == "none":
        return SetRecipe("dc")
    return SetRecipe("dsa", {} if strategy == FULL_STRATEGY else {"siamese": strategy})


class ClassMatching(PixelMethod):
    """Optimises pixels, normalised and without bounds, so that networks see in them what they see in real images.

    A step draws a network, and for every class a batch of real images and one Siamese augmentation for both sides. All
    draws are keyed by seed, step and class.

    Args:
        ipc: Images per class.
        seed: Decides first images, networks, batches and augmentations.
        arch: The networks; instance norm, not batch norm.
        iterations: Networks that are drawn, one after the other.
        lr: Step size of the pixels; or a table by images per class.
        momentum: Of the pixels' gradient descent.
        batch_real: Real images of a class in a step; or a table by images per class.
        init: ``real``: images start as real ones; ``noise``: as standard normal noise.
        augmentation: Siamese strategy, kinds joined by underscores; ``none`` for none.
    """

    continues = True

    def __init__(
        self,
        ipc: int,
        seed: int,
        arch: str,
        iterations: int,
        lr: ByBudget[float],
        momentum: float,
        batch_real: ByBudget[int],
        init: Init,
        augmentation: str,
    ) -> None:
        super().__init__(ipc, seed)
        self.arch = arch
        self.iterations = iterations
        self.lr = lr
        self.momentum = momentum
        self.batch_real = batch_real
        self.init = init
        self.augmentation = augmentation
        self._warm: dict[int, nn.Module] = {}

    @classmethod
    def tiny(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Take a small network and few real images, too."""
        return {**super().tiny(given), "arch": "convnet2-w8", "batch_real": 8}

    @property
    def needs_gradient(self) -> bool:
        """Of the pixels."""
        return True

    def check(self, data: ImageDataModule) -> None:
        """Refuse settings outside their ranges, and networks that cannot be matched."""
        super().check(data)
        batch_real = self._batch_real(data.num_classes)
        for name, value in (("iterations", self.iterations), ("batch_real", batch_real)):
            if value < 1:
                raise UserError(f"{name} must be at least 1, not {value}.")
        if not 0 < self._rate(data.num_classes) < math.inf:
            raise UserError(f"lr must be above 0, not {self.lr}.")
        if not 0 <= self.momentum < 1:
            raise UserError(f"momentum must be in [0, 1), not {self.momentum}.")
        parse_strategy(self.augmentation)
        check_init(self.init)
        if self.init == "real":
            check_budget(data, self.ipc)
        network = draw_network(self.arch, data.num_classes, data.image_size, seed=self.seed)
        classifier_of(network)
        if any(isinstance(layer, _BatchNorm) for layer in network.modules()):
            raise UserError(
                f"{self.arch} has batch norm, under which images of a batch see one another: choose a network with "
                "instance norm, e.g. arch: convnet3."
            )

    def work_items(self, data: ImageDataModule) -> list[WorkItem]:
        """One item per class."""
        return class_items(data.num_classes)

    def form(self, infos: Sequence[dict[str, Any]]) -> SetForm:
        """Images are stored as they were optimised; students train as the papers of this family do it."""
        return SetForm(transform=self._transform(), recipe=siamese_recipe(self.augmentation))

    def _rate(self, num_classes: int) -> float:
        return look_up(self.lr, num_classes, self.ipc, "lr")

    def _batch_real(self, num_classes: int) -> int:
        return look_up(self.batch_real, num_classes, self.ipc, "batch_real")

    @property
    def decoded(self) -> int:
        """Synthetic images of a class that networks see."""
        return self.ipc

    def _transform(self) -> Transform:
        return Transform.normalize(self.data.mean, self.data.std)

    def network(self, step: int) -> nn.Module:
        """Draw the network of a step, on the device; dropout, if it has any, is off.

        In a later stage it is one of some that have learnt from the images of those before.
        """
        if self.earlier is None:
            return self._draw(step)
        number = step % self.earlier.warm_up.networks
        if number not in self._warm:
            network = self._draw(number)
            with torch.enable_grad():
                self.earlier.teach(
                    network,
                    parse_strategy(self.augmentation),
                    partial(self._warm_generator, number),
                )
            self._warm[number] = network
        return copy.deepcopy(self._warm[number])

    def _draw(self, number: int) -> nn.Module:
        drawn = draw_network(
            self.arch,
            self.data.num_classes,
            self.data.image_size,
            self.method,
            "network",
            *self.stage_keys,
            number,
            seed=self.seed,
        )
        return drawn.to(self.device).eval()

    def _warm_generator(self, number: int, stage: int, what: str, epoch: int) -> torch.Generator:
        return self.generator("warm", number, stage, what, epoch)

    def continue_from(self, earlier: Earlier) -> None:
        """Draw networks that have learnt from earlier stages; see :meth:`PixelMethod.continue_from`."""
        super().continue_from(earlier)
        self._warm = {}

    def later_stages(self, sizes: Sizes, earlier: int, warm_up: WarmUp) -> list[Stage]:
        """Train networks on the images of earlier stages."""
        network = draw_network(self.arch, sizes.num_classes, sizes.image_size, seed=self.seed)
        passes, batch = warm_up.networks * warm_up.epochs * earlier, warm_up.batch_size
        batch = min(batch, earlier)
        return [training_stage("warm up", self.arch, network, sizes, passes, batch, moments=1)]

    def start(self, label: int) -> tuple[RealImages, Parameterisation]:
        """Load the real images of a class and make the synthetic ones that the optimisation starts from."""
        real = self.real_images(label, self._transform())
        images = self.initial(real, label)
        labels = torch.full((len(images),), label)
        before = None if self.earlier is None else self.earlier.of_class(label)
        transform = self._transform().to(self.device)
        first = FirstImages(images, labels, transform, self.momentum, before)
        return real, self.parameterise(first, self._rate(self.data.num_classes))

    def initial(self, real: RealImages, label: int) -> Tensor:
        """Make the synthetic images of a class that the optimisation starts from, float ``(ipc, 3, h, w)``."""
        generator = generator_for(self.seed, self.method, "init", label)
        return new_images(real, self.ipc, self.earlier, self.init, generator)

    def drawn(self, real: RealImages, *keys: int) -> Drawn:
        """Draw which real images of a class a step sees.

        Args:
            real: The real images of the class.
            keys: Step and class.
        """
        size = self._batch_real(self.data.num_classes)
        return real.sampler.draw(len(real), size, self.generator("real", *keys))

    def pair(self, real: RealImages, synthetic: Tensor, *keys: int) -> tuple[Tensor, Tensor]:
        """Draw a batch of real images, and augment it and the synthetic ones alike.

        Args:
            real: The real images of a class.
            synthetic: Its synthetic ones, float ``(ipc, 3, h, w)``; gradients flow.
            keys: Step and class.
        """
        batch = real.take(self.drawn(real, *keys).positions)
        kinds = parse_strategy(self.augmentation)
        if not kinds:
            return batch, synthetic
        height, width = batch.shape[-2:]
        drawn = draw_siamese(1, (height, width), kinds, self.generator("siamese", *keys))
        shared = drawn.to(self.device)
        return augment_siamese(batch, shared), augment_siamese(synthetic, shared)

    def loss_of(
        self, network: nn.Module, gap: Gap, real: RealImages, synthetic: Tensor, *keys: int
    ) -> Tensor:
        """Return what a step of a class descends.

        Args:
            network: Of the step.
            gap: Between real and synthetic images under it.
            real: The real images of the class.
            synthetic: Its synthetic ones, float ``(ipc, 3, h, w)``; gradients flow.
            keys: Step and class.
        """
        return gap(network, *self.pair(real, synthetic, *keys))

    def optimise(self, item: WorkItem, gap: Gap, *, per_network: int = 1) -> Shard:
        """Optimise the images of one class under networks that are never trained, so that classes are independent.

        Args:
            item: The class.
            gap: What a step descends.
            per_network: Steps under each network.
        """
        (label,) = item.classes
        real, pixels = self.start(label)
        loop = StepLoop(
            self.iterations,
            state=lambda: state_of(real, pixels),
            restore=lambda state: restore(real, pixels, state),
            checkpoint=self.checkpoint(item),
            what=f"{self.method}: {item.name}",
        )
        drawn = -1
        for step in loop:
            if step // per_network != drawn:
                drawn = step // per_network
                network = self.network(drawn).requires_grad_(False)
            pixels.descend(self.loss_of(network, gap, real, pixels.images, step, label))
            loop.loss = pixels.loss
        return self.shard(label, pixels)

    def matching_stage(
        self,
        name: str,
        loss: Gap,
        sizes: Sizes,
        steps: int,
    ) -> Stage:
        """Describe steps on all classes; a pass is one image, real or synthetic, in one step.

        Args:
            name: Of the stage.
            loss: What a step descends.
            sizes: Of the dataset.
            steps: For each class.
        """
        network = draw_network(self.arch, sizes.num_classes, sizes.image_size, seed=self.seed)
        shown = self.decoded
        batch = min(self._batch_real(sizes.num_classes), sizes.largest_class) + shown
        shape = (3, sizes.image_size, sizes.image_size)

        def run(copied: nn.Module, _: int) -> None:
            images = torch.zeros(batch, *shape, device=device_of(copied))
            synthetic = images[:shown].clone().requires_grad_()
            with torch.enable_grad():
                torch.autograd.grad(loss(copied.eval(), images[shown:], synthetic), synthetic)

        return network_stage(
            name,
            self.arch,
            network,
            run,
            steps * sizes.num_classes * batch,
            batch,
            flops=count_flops(lambda: run(on_meta(network), batch)) // batch,
            files={"images": 4 * image_bytes(sizes, self.ipc)},
            note=f"{steps:,} steps of {batch} images for each of {sizes.num_classes} classes",
        )

    def generator(self, *keys: int | str) -> torch.Generator:
        """Make the generator of one draw."""
        return generator_for(self.seed, self.method, *self.stage_keys, *keys)

    def shard(self, label: int, pixels: Parameterisation) -> Shard:
        """Make the shard of a class, with its last loss in the record.

        Raises:
            UserError: If the images have diverged.
        """
        images = pixels.result()
        info = {"loss": float(pixels.loss), **pixels.info()}
        return Shard(images, torch.full((len(images),), label), info=info)

    def summarize(self, infos: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Average the last loss over classes."""
        return {"loss": math.fsum(info["loss"] for info in infos) / len(infos)}


def state_of(real: RealImages, pixels: Parameterisation) -> dict[str, Any]:
    """Return all that later steps of a class depend on."""
    return {**pixels.state(), **real.sampler.state()}


def restore(real: RealImages, pixels: Parameterisation, state: Mapping[str, Any]) -> None:
    """Go on from a state of a class."""
    pixels.restore(state)
    real.sampler.restore(state)


def feature_gap(
    network: nn.Module, real: Tensor, synthetic: Tensor, statistic: Statistic
) -> Tensor:
    """Return the distance of the features of two batches, of which the real ones are not differentiated.

    Args:
        network: A classifier; features are what its last layer sees.
        real: Float ``(m, 3, h, w)``.
        synthetic: Float ``(n, 3, h, w)``.
        statistic: Between features ``(m, d)`` and ``(n, d)``.
    """
    with torch.no_grad():
        target = penultimate(network, real)
    return statistic(target, penultimate(network, synthetic))
