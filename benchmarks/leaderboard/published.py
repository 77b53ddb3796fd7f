"""Published numbers: read from a data file, shown beside our results, never folded into them."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from ddoq.errors import UserError
from ddoq.storage.yaml_text import parse_yaml


@dataclass(frozen=True)
class Published:
    """One number from a publication.

    Attributes:
        dataset: Name, as in our results where the dataset is among them.
        ipc: Images per class; None for training on the whole training set.
        method: Name, as in our results where the method is among them.
        student: Name of the network; ``not stated`` where the source is silent.
        top1: Top-1 accuracy in %.
        source: Where the number was read.
        recipe: How students were trained.
        std: Standard deviation in percentage points, where reported.
        note: What else a reader must know; ``second-hand`` where another text than the source was read.
    """

    dataset: str
    ipc: int | None
    method: str
    student: str
    top1: float
    source: str
    recipe: str
    std: float | None = None
    note: str = ""

    @property
    def accuracy(self) -> str:
        """The number as text, with its spread where reported."""
        return f"{self.top1:g}" + ("" if self.std is None else f" ± {self.std:g}")


@cache
def published_numbers(path: Path | None = None) -> tuple[Published, ...]:
    """Read published numbers and check them.

    Args:
        path: A YAML file with the lists and mappings ``sources``, ``recipes`` and ``numbers``; the suite's own where
            omitted.

    Returns:
        The numbers by dataset, images per class, method and student.

    Raises:
        UserError: If an entry lacks a key, has an unknown one, names an unknown source or recipe, is no percentage, or
            is listed twice.
    """
    file = path or resources.files("benchmarks.leaderboard") / "published.yaml"
    try:
        content = parse_yaml(file.read_text(encoding="utf-8"), file)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read: {error}.") from None
    parts = content if isinstance(content, dict) else {}
    sources, recipes = parts.get("sources") or {}, parts.get("recipes") or {}
    numbers: dict[tuple[Any, ...], Published] = {}
    for index, entry in enumerate(parts.get("numbers") or []):
        try:
            number = _number(entry, sources, recipes)
        except UserError as error:
            raise UserError(f"{file}, number {index + 1}, {entry}: {error}") from None
        names = ("dataset", "ipc", "method", "student", "source", "recipe")
        key = tuple(getattr(number, name) for name in names)
        if key in numbers:
            raise UserError(f"{file}: number {index + 1} repeats an earlier one: {entry}.")
        numbers[key] = number
    return tuple(sorted(numbers.values(), key=_order))


def _order(number: Published) -> tuple[Any, ...]:
    ipc = float("inf") if number.ipc is None else number.ipc
    return number.dataset, ipc, number.method, number.student, number.recipe, number.source


def _number(entry: Any, sources: Mapping[str, Any], recipes: Mapping[str, Any]) -> Published:
    if not isinstance(entry, dict):
        raise UserError("it must be a mapping.")
    names = {item.name for item in fields(Published)}
    needed = names - {"std", "note"}
    if wrong := sorted(set(entry) - names) or sorted(needed - set(entry)):
        raise UserError(f"it lacks, or should not have, {', '.join(wrong)}.")
    for key, known in (("source", sources), ("recipe", recipes)):
        if entry[key] not in known:
            raise UserError(f"{key} {entry[key]!r} is not among {', '.join(map(str, known))}.")
    if not (entry["ipc"] is None or (type(entry["ipc"]) is int and entry["ipc"] > 0)):
        raise UserError(f"ipc must be a positive integer or null, not {entry['ipc']!r}.")
    top1 = entry["top1"]
    if type(top1) not in (int, float) or not 1 <= top1 <= 100:
        raise UserError(f"top1 must be a percentage from 1 to 100, not {top1!r}.")
    references = {"source": str(sources[entry["source"]]), "recipe": str(recipes[entry["recipe"]])}
    return Published(**{**entry, **references})
