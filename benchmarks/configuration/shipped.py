"""The configurations that come with the installation, for commands that are run outside of a checkout."""

import os
from collections.abc import Sequence
from pathlib import Path

FOLDER = "configs"


def shipped_root() -> Path:
    """Return the folder of the configurations that come with this installation.

    A wheel holds them in this package; in a checkout they lie beside it.
    """
    package = Path(__file__).parents[1]
    inside = package / FOLDER
    return inside if inside.is_dir() else package.parent / FOLDER


def locate(path: Path) -> Path:
    """Find a configuration: the file itself, or the one of that name that comes with the installation.

    A file that is there always wins. One that is not, and that would lie in a folder ``configs`` of the working
    directory, stands for the installation's own.

    Args:
        path: As it was named.

    Returns:
        A file that is there, or ``path`` where there is none.

    Example:
        >>> locate(Path("configs/quickstart.yaml")).is_file(), locate(Path("mine.yaml"))
        (True, PosixPath('mine.yaml'))
    """
    tail = _below_configs(path)
    if path.exists() or tail is None:
        return path
    shipped = shipped_root() / tail
    return shipped if shipped.is_file() else path


def locate_beside(file: Path, name: str) -> Path:
    """Find a configuration that another one names, relative to itself; see :func:`locate`.

    What a file of the installation names may be in the working directory, too, and is read there.

    Args:
        file: The one that names it.
        name: E.g. ``../scales/gpu.yaml``, or ``configs/scales/gpu.yaml`` in a file outside of any such folder.

    Returns:
        A file that is there, or where it should be.
    """
    beside = locate(file.parent / name)
    whole = Path(os.path.normpath(beside))
    if whole.is_relative_to(shipped_root()):
        local = FOLDER / whole.relative_to(shipped_root())
        return local if local.is_file() and local.resolve() != whole.resolve() else beside
    if beside.exists() or Path(name).parts[:1] != (FOLDER,):
        return beside
    shipped = shipped_root().joinpath(*Path(name).parts[1:])
    return shipped if shipped.is_file() else beside


def is_overlaid(root: Path) -> bool:
    """Say whether a folder is the ``configs`` of the working directory or that of the installation.

    Files of the former stand above those of the latter, as if both were one folder.
    """
    return root.resolve() in (Path(FOLDER).resolve(), shipped_root().resolve())


def describe_origins(files: Sequence[Path]) -> list[str]:
    """Say which files come from the installation, and which stand in the place of one that does.

    Args:
        files: All that are read.

    Returns:
        A line each; none in a checkout that is the installation itself.
    """
    root, here = shipped_root().resolve(), Path(FOLDER).resolve()
    if root == here:
        return []
    taken: list[str] = []
    lines: list[str] = []
    for file in dict.fromkeys(path.resolve() for path in files):
        if file.is_relative_to(root):
            taken.append(str(FOLDER / file.relative_to(root)))
        elif file.is_relative_to(here) and (root / file.relative_to(here)).is_file():
            name = FOLDER / file.relative_to(here)
            lines.append(f"configuration: {name} of this folder is read, not the installation's")
    if taken:
        lines.insert(0, f"configuration: {', '.join(taken)} from the installation ({root})")
    return lines


def _below_configs(path: Path) -> Path | None:
    """Return what follows ``configs`` in a path below the working directory's; None for all others."""
    whole = Path(os.path.normpath(Path.cwd() / path))
    here = Path.cwd() / FOLDER
    return whole.relative_to(here) if whole.is_relative_to(here) and whole != here else None
