"""A generator of others: a class that builds it, and a file of weights."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from baselines.glad.generators import KEY, GeneratorSource
from ddoq.costs.workload import Sizes, Stage
from ddoq.data import ImageDataModule
from ddoq.data.known_registries import imagenet_indices
from ddoq.errors import UserError
from ddoq.finite import check_weights
from ddoq.priors.base import Prior
from ddoq.priors.generators import Generator, Split
from ddoq.priors.generators.base import check_generator
from ddoq.storage.fingerprints import hash_config, hash_files


class OpenedGenerator(GeneratorSource):
    """A generator of others: a subclass builds the network, and its weights are read from a ``.safetensors`` file.

    Args:
        weights: The file; it holds the state dict of what :meth:`build` returns.
        classes: For each class of the dataset, its number in the generator; ``imagenet`` finds the numbers in ImageNet-1K by
            WordNet id. None where classes are the same.
    """

    def __init__(
        self, weights: str, classes: list[int] | Literal["imagenet"] | None = None
    ) -> None:
        self.weights = weights
        self.classes = classes
        self._given: Generator | None = None
        self._numbers: Tensor | None = None

    @abstractmethod
    def build(self) -> Generator:
        """Make the network, whatever its weights."""

    def settings(self) -> dict[str, Any]:
        """Leave out where the weights lie: their contents count, in the fingerprint."""
        return {name: value for name, value in super().settings().items() if name != "weights"}

    def give(self, data: ImageDataModule, prior: Prior | None) -> None:
        """Read the weights, and compare sizes and classes with the dataset's; see :meth:`GeneratorSource.give`."""
        made = self.build()
        path = Path(self.weights)
        if path.suffix != ".safetensors" or not path.is_file():
            raise UserError(
                f"{KEY}.weights must be a .safetensors file that is there, not {self.weights}."
            )
        try:
            made.load_state_dict(load_file(path))
        except (RuntimeError, OSError, SafetensorError) as error:
            raise UserError(
                f"{KEY}.weights: {path} does not fit {type(made).__name__}: {error}"
            ) from None
        made.origin = f"{type(made).__name__} of {path.name}"
        numbers = imagenet_indices(data.classes) if self.classes == "imagenet" else self.classes
        known = made.num_classes
        if numbers is not None:
            self._check_numbers(numbers, known, data)
            self._numbers, known = torch.tensor(numbers), len(numbers)
        check_generator(made.image_size, known, made.origin, data.image_size, data.num_classes)
        check_weights(made, f"The generator {made.origin}", "Take other weights: these are broken.")
        self._given = made.eval().requires_grad_(False)

    def _check_numbers(
        self, numbers: Sequence[int], known: int | None, data: ImageDataModule
    ) -> None:
        if len(numbers) != data.num_classes or not all(
            0 <= number < (known or 0) for number in numbers
        ):
            raise UserError(
                f"{KEY}.classes must be {data.num_classes} numbers, one for each class of {data.name}, below the {known or 0} "
                "classes of the generator."
            )

    def numbers(self, labels: Tensor) -> Tensor:
        """Map labels by ``classes``."""
        return labels if self._numbers is None else self._numbers[labels.cpu()]

    def prepare(self, data: ImageDataModule, folder: Path, where: Mapping[str, Any]) -> None:
        """Prepare nothing: the weights are there."""

    @property
    def fingerprint(self) -> str:
        """Hash of the file and of the classes."""
        chosen = None if self._numbers is None else self._numbers.tolist()
        return hash_config([hash_files([Path(self.weights)]), chosen])

    def splits(self, data: ImageDataModule) -> tuple[Split, ...] | None:
        """Return those of the network, once it is read."""
        return None if self._given is None else self._given.splits

    def generator(self) -> Generator:
        """Return the network."""
        if self._given is None:
            raise RuntimeError("No weights are read yet: call give() first.")
        return self._given

    @property
    def knowledge(self) -> str:
        """Where the weights came from."""
        return f"generator {self.generator().origin}"

    def workload(self, sizes: Sizes) -> list[Stage]:
        """Take nothing: it is trained."""
        return []
