"""The kinds of result files beside those of classification of images."""

from pathlib import Path
from typing import Any

from benchmarks.results.graphs import GRAPHS
from benchmarks.results.sealed import Kind
from benchmarks.results.transfers import TRANSFERS

KINDS: tuple[Kind[Any], ...] = (TRANSFERS, GRAPHS)


def kind_of(path: Path) -> Kind[Any] | None:
    """Return the kind that a file is named as; None where it is named as none of them.

    Example:
        >>> kind_of(Path("graphs/graphs-0123456789abcdef.json")).what
        'graphs'
    """
    return next((kind for kind in KINDS if kind.is_named(path)), None)
