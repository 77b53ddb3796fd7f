"""Classes of installed packages alone: a configuration from elsewhere must not run a file that happens to lie around."""

import site
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import BuiltinImporter, FrozenImporter, ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from ddoq.errors import UserError

FLAG = "--allow-local-code"
_ORDINARY = (PathFinder, BuiltinImporter, FrozenImporter)  # finders that know no editable install


def take_flag(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """Split the option that allows local code from all others; it is none of a configuration's keys.

    Args:
        arguments: As typed.

    Returns:
        The others, and whether local code may run.

    Raises:
        UserError: If its value is neither true nor false.

    Example:
        >>> take_flag(["--allow-local-code", "true", "--seeds=[1]"])
        (['--seeds=[1]'], True)
    """
    rest, allowed, waiting = [], False, False
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        if waiting and not argument.startswith("-"):
            flag, equals, value = FLAG, "=", argument
        waiting = False
        if flag.replace("_", "-") != FLAG:
            rest.append(argument)
            continue
        if equals and value not in ("true", "false"):
            raise UserError(f"{FLAG} must be true or false, not {value!r}.")
        allowed, waiting = value != "false", not equals
    return rest, allowed


@contextmanager
def installed_code(contents: Sequence[Any], *, allow_local: bool) -> Iterator[None]:
    """Import modules that are installed and no others, while a configuration is read.

    Modules that were imported before stay what they are, and so do the packages of an editable install.

    Args:
        contents: What the configuration says.
        allow_local: Whether local files may be imported, too.

    Raises:
        UserError: If a class cannot be had for this reason; nothing of its module has run.
    """
    if allow_local:
        yield
        return
    finder = _InstalledOnly()
    sys.meta_path.insert(0, finder)
    try:
        yield
    except Exception:
        roots = {text.partition(".")[0] for text in _texts(contents) if "." in text}
        for name, origin in finder.refused.items():
            if name in roots:
                raise UserError(
                    f"The module {name!r} ({origin}) is a local file and no installed package, and nothing of it was run. "
                    f"If you trust it, add {FLAG} true."
                ) from None
        raise
    finally:
        sys.meta_path.remove(finder)


class _InstalledOnly(MetaPathFinder):
    """Finds top-level modules where packages are installed, and refuses those that lie elsewhere.

    Attributes:
        refused: Where each of these lies, by name.
    """

    def __init__(self) -> None:
        self.refused: dict[str, str] = {}
        self._folders = _installed_folders()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module as Python asks for it.

        Raises:
            ModuleNotFoundError: If it is a local one.
        """
        if path is not None or "." in fullname or fullname in sys.builtin_module_names:
            return None  # within a package that was imported before
        if spec := PathFinder.find_spec(fullname, self._folders, target):
            return spec
        for finder in sys.meta_path:  # those of editable installs among them
            if finder is self or finder in _ORDINARY:
                continue
            if spec := finder.find_spec(fullname, None, target):
                return spec
        local = PathFinder.find_spec(fullname, None, target)
        if local is None:
            return None
        places = [local.origin] if local.origin else list(local.submodule_search_locations or [])
        self.refused[fullname] = places[0] if places else "a local folder"
        raise ModuleNotFoundError(f"No installed module named {fullname!r}", name=fullname)


def _installed_folders() -> list[str]:
    """List the entries of the search path at which Python and packages are installed, editable ones included."""
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    folders = {Path(sysconfig.get_path(name)) for name in names}
    folders |= {Path(folder) for folder in (*site.getsitepackages(), site.getusersitepackages())}
    folders |= {folder / "lib-dynload" for folder in folders}
    for file in [file for folder in folders for file in folder.glob("*.pth")]:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        named = (file.parent / line.strip() for line in lines if line.strip())
        folders |= {folder for folder in named if folder.is_dir()}
    resolved = {folder.resolve() for folder in folders}
    return [entry for entry in sys.path if entry and Path(entry).resolve() in resolved]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _texts(key)
            yield from _texts(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item)
