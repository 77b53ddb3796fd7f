"""Keys that act on images alone, and are refused where a dataset holds something else."""

from collections.abc import Iterable, Mapping
from typing import Any

from ddoq.errors import UserError

_KEYS = ("recipe", "prior", "teacher", "trainer.precision")


def refuse_image_keys(
    said: Iterable[tuple[str, Mapping[str, Any]]], name: str, holds: str = "graphs"
) -> None:
    """Refuse what a configuration says of images; defaults, which nobody says, are none of it.

    Args:
        said: What :func:`benchmarks.configuration.options.read` gives.
        name: Of the dataset.
        holds: What it holds.

    Raises:
        UserError: Naming the keys, and the files that have them.

    Example:
        >>> refuse_image_keys([("a.yaml", {"model": {"class_path": "DosCond"}})], "motifs")
    """
    found: dict[str, None] = {}
    for file, content in said:
        for key in _KEYS:
            value: Any = content
            for part in key.split("."):
                value = value.get(part) if isinstance(value, Mapping) else None
            if value is not None:
                found[f"{key} (in {file})" if file else f"--{key}"] = None
    if found:
        verb = "has" if len(found) == 1 else "have"
        raise UserError(
            f"{name} holds {holds}, on which {' and '.join(found)} {verb} no effect: leave that out. Students of {holds} "
            "learn as evaluation.graphs says, in 32 bit."
        )
