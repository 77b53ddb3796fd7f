"""What a method needs beyond a prior and a teacher: recorded experts, generators, rankings of the data."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Generic

from ddoq.costs.workload import Sizes, Stage
from ddoq.data import Data, LabelledData
from ddoq.distillation.arguments import Configured, hashed, instances
from ddoq.storage.fingerprints import hash_config
from ddoq.storage.keys import precision_name
from ddoq.storage.run_folder import RunFolder


class Ingredient(Configured, ABC, Generic[Data]):
    """A part that a method names as a class-typed argument of its own, e.g. ``experts: ExpertTrajectories``.

    The suite finds it there, checks it with the method, and has it prepared before any work item begins; no other file
    knows of its kind. Its arguments are recorded as those of methods are, see :class:`Configured`. An ingredient may
    take others, which are prepared before it.

    Attributes:
        format: Raised whenever a change of code changes what is prepared, so that old products are not reused.
    """

    format: ClassVar[int] = 1

    @abstractmethod
    def prepare(self, data: Data, folder: Path, where: Mapping[str, Any]) -> None:
        """Train, record or load the ingredient.

        Every rank calls it, at the same time and before there is a process group: :func:`ddoq.storage.folders.build_once`
        lets one of them build while the others wait. What takes long keeps a checkpoint beside the folder
        (``Checkpoint.beside(folder, folder.name)``), so that a killed run goes on from there.

        Args:
            data: The dataset, set up.
            folder: Its own place in the cache, named after its class, settings and format, the dataset, the precision,
                and the ingredients that it holds; it does not exist at first.
            where: Arguments of ``lightning.Trainer`` that say where to run.

        Raises:
            UserError: If it cannot be had or does not fit the dataset.
        """

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Hash of what was prepared; it enters the keys of shards and sets. Needs :meth:`prepare`."""

    def check(self, data: Data) -> None:
        """Refuse settings that cannot work on this dataset, before anything is prepared.

        Raises:
            UserError: Naming the setting and the mend.
        """

    def workload(self, sizes: Sizes) -> list[Stage]:
        """Say what preparing it will take; ``ddoq-bench plan`` shows it.

        Args:
            sizes: Of the dataset.
        """
        name = type(self).__name__
        return [Stage.unknown(f"prepare {name}", f"{name} does not say what it takes")]

    def facts(self) -> dict[str, Any]:
        """Return what the set's record says of it beside its fingerprint (JSON values), e.g. the seconds it took."""
        return {}


def ingredients_of(arguments: Mapping[str, Any]) -> dict[str, Ingredient[Any]]:
    """Find all ingredients among arguments, those that they hold themselves first.

    Args:
        arguments: Of a method, by name.

    Returns:
        Ingredients by the path of their argument, e.g. ``experts`` and ``experts.generator``.
    """

    def walk(given: Mapping[str, Any]) -> Iterator[tuple[str, Ingredient[Any]]]:
        for name, value in instances(given):
            if isinstance(value, Ingredient):
                yield from ((f"{name}.{inner}", part) for inner, part in walk(value.arguments))
                yield name, value

    return dict(walk(arguments))


def prepare_all(
    ingredients: Mapping[str, Ingredient[Any]],
    data: LabelledData,
    root: Path,
    where: Mapping[str, Any],
) -> None:
    """Prepare ingredients in their order, one that occurs twice once.

    Args:
        ingredients: By name; those that others hold come first.
        data: The dataset, set up.
        root: The output folder.
        where: See :meth:`Ingredient.prepare`.
    """
    for part in {id(part): part for part in ingredients.values()}.values():
        part.prepare(data, folder_of(part, data, root, where), where)


def folder_of(
    part: Ingredient[Any],
    data: LabelledData,
    root: Path,
    where: Mapping[str, Any],
    **further: Any,
) -> Path:
    """Return where an ingredient is kept, by all that decides it.

    Args:
        part: The ingredient; those that it holds are prepared.
        data: The dataset, set up.
        root: The output folder.
        where: See :meth:`Ingredient.prepare`.
        further: What else decides it (JSON values).
    """
    held = ingredients_of(part.arguments)
    key = {
        "format": part.format,
        "settings": hashed(part.settings()),
        "data": data.normalized_fingerprint,
        "precision": precision_name(where.get("precision")),
        "ingredients": {name: inner.fingerprint for name, inner in held.items()},
        **further,
    }
    return RunFolder(root).ingredient(f"{type(part).__name__}-{hash_config(key)}")
