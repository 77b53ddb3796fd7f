"""The entries of a suite: which configuration files each stands for, and the grid it is run over."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.configuration.shipped import FOLDER, is_overlaid, locate_beside, shipped_root
from benchmarks.suites.file import BUDGET, LAYERS, grids
from ddoq.errors import UserError, suggest


@dataclass(frozen=True)
class Entry:
    """One configuration of a suite with all its values.

    Attributes:
        title: What progress lines call it.
        files: The configuration files, in the order in which ``--config`` names them.
        values: One mapping from keys to values for each combination of the grid.
    """

    title: str
    files: tuple[Path, ...]
    values: tuple[Mapping[str, Any], ...]

    def without_budgets(self) -> "Entry":
        """Return the entry with each combination once, whatever its budget: a smoke run has one of its own."""
        kept: list[Mapping[str, Any]] = []
        for values in self.values:
            rest = {key: value for key, value in values.items() if key != BUDGET}
            kept += [rest] if rest not in kept else []
        return replace(self, values=tuple(kept))


def list_entries(path: Path, content: Mapping[str, Any]) -> list[Entry]:
    """List what a suite runs: ``configs`` one by one, then every method at every scale on every dataset.

    An entry's own grid is combined with the suite's; its own ``ipc`` stands for the suite's, and ``ipc: null`` is for a
    method without a budget.

    Args:
        path: The suite file.
        content: What it holds; see :func:`benchmarks.suites.file.read_suite`.

    Returns:
        The entries, in order.

    Raises:
        UserError: If there is no dataset, method or scale of a name.
    """
    entries = [
        _entry(path, content, {"configs": entry}, Path(_name(entry, "configs")).stem)
        for entry in content.get("configs", [])
    ]
    axes = [content.get("datasets", []), content.get("scales", [None]), content.get("methods", [])]
    for dataset, scale, method in itertools.product(*axes):
        parts = {"datasets": dataset, "methods": method, "scales": scale}
        stems = [Path(_name(part, key)).stem for key, part in parts.items() if part is not None]
        entries.append(_entry(path, content, parts, " ".join(stems)))
    return entries


def _entry(path: Path, content: Mapping[str, Any], parts: Mapping[str, Any], title: str) -> Entry:
    """Gather the files of some parts, one of each kind, and combine their grids with the suite's."""
    given = {key: part for key, part in parts.items() if part is not None}
    files = tuple(_locate(path, key, _name(part, key)) for key, part in given.items())
    settings = [content, *(part for part in given.values() if isinstance(part, dict))]
    ipc = next(part["ipc"] for part in [*reversed(settings), {"ipc": None}] if "ipc" in part)
    axes = [[{BUDGET: k} for k in ipc] if ipc else [{}]]
    axes += [list(_combinations(part)) for part in settings]
    values = tuple(
        {key: value for part in combination for key, value in part.items()}
        for combination in itertools.product(*axes)
    )
    return Entry(title, files, values)


def _combinations(part: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for grid in grids(part):
        for values in itertools.product(*grid.values()):
            yield dict(zip(grid, values, strict=True))


def _name(entry: Any, plural: str) -> str:
    return str(entry[LAYERS[plural]] if isinstance(entry, dict) else entry)


def _locate(path: Path, folder: str, name: str) -> Path:
    """Find the file of a name: a path relative to the suite, or a name in a folder such as ``datasets``."""
    if folder == "configs" or name.endswith((".yaml", ".yml")):
        return locate_beside(path, name)
    here = path.parent
    above = here.parent if here.name not in ("", "..") else here / ".."
    # A file of the working directory's `configs` stands above the installation's also where the suite is of the latter.
    overlaid = (
        [Path(FOLDER)] if is_overlaid(above) and above.resolve() != Path(FOLDER).resolve() else []
    )
    roots = [*overlaid, above, here, here / FOLDER, above / FOLDER, shipped_root()]
    for root in roots:
        if (root / folder / f"{name}.yaml").is_file():
            return root / folder / f"{name}.yaml"
    known = {file.stem for root in roots for file in (root / folder).glob("*.yaml")}
    raise UserError(
        f"{path}: there is no {LAYERS[folder]} {name!r}. {suggest(name, known)} Or give a file, relative to the suite's."
    )
