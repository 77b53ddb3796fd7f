"""Where a teacher comes from."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from ddoq.console import say
from ddoq.data.base import ImageDataModule
from ddoq.errors import UserError
from ddoq.teachers.teacher import Teacher


class TeacherSource(ABC):
    """Obtains a teacher for a dataset."""

    @abstractmethod
    def obtain(self, data: ImageDataModule, cache: Path, trainer: Mapping[str, Any]) -> Teacher:
        """Train or load a teacher and make sure that it fits the dataset.

        Args:
            data: The dataset.
            cache: Root of the cache.
            trainer: Arguments of ``lightning.Trainer`` that say where to run.

        Returns:
            The teacher, on the CPU.

        Raises:
            UserError: If it cannot be had or does not fit the dataset.
        """


class PretrainedTeacher(TeacherSource):
    """A teacher that was trained elsewhere: by its name, from a state dict, or from a folder.

    - ``arch: torchvision/resnet18, weights: IMAGENET1K_V1``: weights of torchvision. ``DEFAULT`` is refused, since it
      changes between releases.
    - ``arch: timm/resnet18.a1_in1k``: weights of timm, the tag after the dot.
    - ``arch: torchvision/resnet18, path: mine.safetensors``: a state dict of one's own, for any network of torchvision,
      timm or this package. With ``weights`` as well, the file stands for them and takes over their normalisation.
    - ``path: folder``, alone: what :meth:`ddoq.teachers.Teacher.save` wrote, e.g. a folder below ``teachers/`` in an
      output folder.

    Weights that are named are measured on the real test set once, and kept with their accuracy in the cache.

    Args:
        path: A folder, or with ``arch`` a ``.safetensors`` file.
        arch: ``torchvision/<name>``, ``timm/<name>[.<tag>]``, or with ``path`` any name that
            :func:`ddoq.networks.build_network` knows.
        weights: The tag of the weights.
        classes: For each class of the dataset, its number among the outputs of the weights; ``imagenet`` finds the
            numbers in ImageNet-1K by WordNet id. Only these outputs are kept. None where classes are the same.
        mean: Channel means of the normalisation; None takes those of the weights, or of the dataset for a state
            dict that has no name.
        std: Channel standard deviations, likewise.
        kwargs: Further arguments of the network.
        stem: ``small`` for networks of timm at 64 pixels or less, with ``path``.

    Raises:
        UserError: If arguments do not go together.
    """

    def __init__(
        self,
        path: str | None = None,
        arch: str | None = None,
        weights: str | None = None,
        classes: list[int] | Literal["imagenet"] | None = None,
        mean: tuple[float, float, float] | None = None,
        std: tuple[float, float, float] | None = None,
        kwargs: dict[str, Any] | None = None,
        stem: str | None = None,
    ) -> None:
        named: dict[str, Any] = {"weights": weights, "classes": classes, "mean": mean, "std": std}
        named |= {"kwargs": kwargs, "stem": stem}
        if arch is None:
            if path is None:
                raise UserError(
                    "PretrainedTeacher needs a path, or an arch with weights, e.g. "
                    "{arch: torchvision/resnet18, weights: IMAGENET1K_V1}."
                )
            given = [name for name, value in named.items() if value is not None]
            if given:
                raise UserError(
                    f"teacher.{given[0]} needs teacher.arch: a teacher's folder, {path}, knows all about itself."
                )
        if (mean is None) != (std is None):
            raise UserError("teacher.mean and teacher.std belong together: give both or neither.")
        self.path = path
        self.arch = arch
        self.weights = weights
        self.classes = classes
        self.mean = mean
        self.std = std
        self.kwargs = dict(kwargs or {})
        self.stem = stem

    def obtain(self, data: ImageDataModule, cache: Path, trainer: Mapping[str, Any]) -> Teacher:
        """Load it; see :meth:`TeacherSource.obtain`."""
        data.setup()
        if self.arch is not None:
            from ddoq.teachers.pretrained import obtain_named

            teacher, how = obtain_named(self, data, cache, trainer)
        else:
            assert self.path is not None
            teacher, how = Teacher.load(Path(self.path).expanduser()), f"loaded from {self.path}"
        teacher.check_matches(data)
        announce(teacher, how)
        return teacher


def announce(teacher: Teacher, how: str) -> None:
    """Print one line on a teacher and how it was had, on rank 0."""
    say(f"teacher {teacher.arch}: {teacher.accuracy:.2%} on real test images, {how}")
