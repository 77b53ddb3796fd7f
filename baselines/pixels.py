"""What methods share that optimise pixels beside real images, and wrappers choose the real ones for."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from ddoq.costs.workload import Sizes, Stage
from ddoq.decoding.transform import Transform
from ddoq.distillation.distiller import Distiller
from ddoq.distillation.stages import Earlier, WarmUp
from ddoq.distillation.wrapper import Wrapper
from ddoq.errors import UserError
from ddoq.optimisation.real_images import Init, RealImages
from ddoq.selection.sampling import Sampler

# From a method that is attached and a class to what chooses real images of this class.
Sampling = Callable[["PixelMethod", int], Sampler]


class PixelMethod(Distiller):
    """Optimises pixels that start from real images.

    Attributes:
        sampling: Makes the sampler of a class; None takes all real images of a class for alike. A wrapper sets it.
        continues: Whether it can learn images beside those of earlier stages.
        earlier: Stages before this one, whose images stand fixed before its own; None where there is none.
    """

    sampling: Sampling | None = None
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
