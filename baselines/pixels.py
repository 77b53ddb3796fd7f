"""What methods share that optimise pixels beside real images, and wrappers choose the real ones for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ddoq.costs.workload import Sizes, Stage
from ddoq.decoding.transform import Transform
from ddoq.distillation.distiller import Distiller
from ddoq.distillation.stages import Earlier, WarmUp
from ddoq.distillation.wrapper import Wrapper
from ddoq.errors import UserError
from ddoq.optimisation.pixels import Parameterisation, Pixels
from ddoq.optimisation.real_images import Init, RealImages
from ddoq.selection.sampling import Sampler

# From a method that is attached and a class to what chooses real images of this class.
Sampling = Callable[["PixelMethod", int], Sampler]


@dataclass(frozen=True)
class FirstImages:
    """What an optimisation starts from.

    Attributes:
        images: Float ``(n, 3, h, w)``, in the space that they are matched in.
        labels: Their classes, int64 ``(n,)``.
        transform: To that space, on the device.
        momentum: Of the descent.
        before: Images of earlier stages that stand fixed before them, float ``(m, 3, h, w)``; None where there are none.
    """

    images: Tensor
    labels: Tensor
    transform: Transform
    momentum: float
    before: Tensor | None = None


# From a method that is attached and what it starts from to what is optimised in the place of pixels.
MakeLatents = Callable[["PixelMethod", FirstImages], Parameterisation]


class PixelMethod(Distiller):
    """Optimises pixels that start from real images.

    Attributes:
        sampling: Makes the sampler of a class; None takes all real images of a class for alike. A wrapper sets it.
        latents: Makes what is optimised in the place of pixels; None optimises pixels. A wrapper sets it.
        latent_rates: Step sizes of a generator's features and styles under this method's loss (GeorgeCazenavette/glad at
            fe62863); None where it does not optimise images alone.
        layer_steps: Iterations before each layer of a generator, where it goes from one to the next (ndhg1213/H-PD at
            a6a5d4c).
        continues: Whether it can learn images beside those of earlier stages.
        earlier: Stages before this one, whose images stand fixed before its own; None where there is none.
    """

    sampling: Sampling | None = None
    latents: MakeLatents | None = None
    latent_rates: ClassVar[tuple[float, float] | None] = None
    layer_steps: ClassVar[int] = 100
    continues: ClassVar[bool] = False
    earlier: Earlier | None = None

    def continue_from(self, earlier: Earlier) -> None:
        """Learn images beside those of earlier stages, under networks that have learnt from these.

        Args:
            earlier: The stages.
        """
        self.earlier = earlier

    @property
    def stage_keys(self) -> tuple[str | int, ...]:
        """What the draws of a later stage are keyed by, beside their own keys."""
        return () if self.earlier is None else ("stage", self.earlier.number)

    def learned_lr(self, info: Mapping[str, Any]) -> float | None:
        """Return the students' learning rate that was learned with a shard, from its ``info``; None where none was."""
        return None

    def later_stages(self, sizes: Sizes, earlier: int, warm_up: WarmUp) -> list[Stage]:
        """Say what a stage after others takes before its steps.

        Args:
            sizes: Of the dataset.
            earlier: Images of the sets that one network learns from in one epoch of each stage before.
            warm_up: How networks learn from them.
        """
        return [Stage.unknown("warm up", f"{type(self).__name__} does not say what it takes")]

    @property
    def matched_arch(self) -> str:
        """The networks that images are matched under."""
        return str(self.arguments["arch"])

    def parameterise(self, first: FirstImages, lr: float) -> Parameterisation:
        """Make what is optimised: pixels, unless a wrapper has put something in their place.

        Args:
            first: What it starts from.
            lr: Step size of pixels.
        """
        if self.latents is not None:
            return self.latents(self, first)
        if first.before is None:
            return Pixels(first.images, lr, first.momentum)
        together = torch.cat([first.before, first.images])
        return Pixels(together, lr, first.momentum, len(first.before))

    def descents(self, num_classes: int) -> int:
        """Return how many steps the images of a class take in all.

        Args:
            num_classes: Of the dataset.
        """
        return int(self.arguments["iterations"])

    def real_images(self, label: int, transform: Transform) -> RealImages:
        """Load the real images of a class, with what chooses among them.

        Args:
            label: The class.
            transform: To the space of the optimisation.
        """
        stored = self.data.train.load(self.data.train.of_class(label).tolist())
        sampler = None if self.sampling is None else self.sampling(self, label)
        return RealImages(stored.to(self.device), transform.to(self.device).apply, sampler)


def inmost(method: Distiller) -> Distiller:
    """Return the method inside of all wrappers: itself where it is none."""
    while isinstance(method, Wrapper):
        method = method.base
    return method


def new_images(
    real: RealImages, ipc: int, earlier: Earlier | None, init: Init, generator: torch.Generator
) -> Tensor:
    """Choose the real images that a class starts from; those of a later stage are others than those before it had.

    Args:
        real: The real images of the class.
        ipc: How many.
        earlier: Stages before this one, of as many images each.
        init: See :meth:`RealImages.initial`.
        generator: CPU generator, the same for all stages.
    """
    total = ipc * (1 if earlier is None else earlier.number + 1)
    return real.initial(total, init, generator)[-ipc:]


def check_free(wrapper: Wrapper) -> None:
    """Refuse a wrapper that chooses real images around another one that does.

    Raises:
        UserError: Naming both.
    """
    inner = wrapper.base
    while isinstance(inner, Wrapper):
        if inner.chooses:
            raise UserError(
                f"{type(wrapper).__name__} and {type(inner).__name__} inside of it both choose the real images of steps: leave "
                "one of them out."
            )
        inner = inner.base
