"""What all figures share: colours, fonts that have the letters of names, and files that are equal for equal contents."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ddoq.fonts import default_font, font_for
from ddoq.storage.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#999999")
GREY = "#666666"


def new_figure(width: float, height: float) -> "Figure":
    """Make an empty figure of a size in inches."""
    from matplotlib.figure import Figure  # without pyplot: no backend, no global state

    return Figure(figsize=(width, height), layout="constrained")


@contextmanager
def plain_text(texts: Iterable[str]) -> Iterator[None]:
    """Take names as they are: no formula between dollar signs, and fonts that have their letters.

    Args:
        texts: The names that are drawn.
    """
    import matplotlib
    from matplotlib.font_manager import FontProperties, fontManager

    families = ["DejaVu Sans"]
    for file in {font_for(text) for text in texts} - {None, default_font()}:
        fontManager.addfont(str(file))
        families.append(FontProperties(fname=str(file)).get_name())
    with matplotlib.rc_context({"font.family": families, "text.parse_math": False}):
        yield


def save_figure(figure: "Figure", path: Path) -> None:
    """Write a figure as PNG; without the version of matplotlib in the file equal results give equal files."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120, metadata={"Software": None})
