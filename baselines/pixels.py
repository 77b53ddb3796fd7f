"""What methods share that optimise pixels beside real images, and wrappers choose the real ones for."""

from collections.abc import Callable

from ddoq.decoding.transform import Transform
from ddoq.distillation.distiller import Distiller
from ddoq.distillation.wrapper import Wrapper
from ddoq.errors import UserError
from ddoq.optimisation.real_images import RealImages
from ddoq.selection.sampling import Sampler

# From a method that is attached and a class to what chooses real images of this class.
Sampling = Callable[["PixelMethod", int], Sampler]


class PixelMethod(Distiller):
    """Optimises pixels that start from real images.

    Attributes:
        sampling: Makes the sampler of a class; None takes all real images of a class for alike. A wrapper sets it.
    """

    sampling: Sampling | None = None

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
