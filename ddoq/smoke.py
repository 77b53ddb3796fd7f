"""What the parts of a run are like in a smoke run: everything tiny, nothing fetched."""

import inspect
from collections.abc import Mapping
from typing import Any, ClassVar

# Arguments that many classes have under the same name, and the most that a smoke run needs of them.
_MOST: Mapping[str, int] = {
    "ipc": 2,
    "iterations": 2,
    "steps": 2,
    "epochs": 1,
    "batch_size": 8,
}


class Tiny:
    """A class that says which of its arguments a smoke run changes.

    Attributes:
        stand_in: Class path of what takes its place in a smoke run, because it needs what may not be at hand, such as
            downloaded weights. Its :meth:`tiny` is then given the arguments of the class that it stands in for. Datasets
            are replaced only where the user asks for synthetic images.
    """

    stand_in: ClassVar[str | None] = None

    @classmethod
    def tiny(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments to change so that a run with an instance takes seconds.

        Counts of the usual names (``ipc``, ``iterations``, ``steps``, ``epochs``, ``batch_size``) are lowered and ``compile``
        is switched off; a class with other long work adds to this. What is returned stands for whole arguments: of a
        dataclass it holds all fields that differ from its defaults.

        Args:
            given: The arguments of the configuration as plain values (instances as ``{class_path, init_args}``), those
                left out at their defaults.

        Returns:
            Changes by name.
        """
        changes: dict[str, Any] = {
            name: lower(given.get(name, most), most)
            for name, most in _MOST.items()
            if given.get(name, most) is not None
        }
        return accepted(cls, {**changes, "compile": False})


def accepted(cls: type, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Keep of some arguments those that a class's constructor has."""
    names = inspect.signature(cls.__init__).parameters  # type: ignore[misc]
    return {name: value for name, value in changes.items() if name in names}


def lower(value: Any, most: int) -> int:
    """Return a count, or what a smoke run needs at most; a table of counts becomes one count.

    Example:
        >>> lower(1000, 2), lower(1, 2), lower({1: 50, 10: 10}, 2)
        (2, 1, 2)
    """
    return min(value, most) if isinstance(value, int) else most
