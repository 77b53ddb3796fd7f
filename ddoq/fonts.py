"""Fonts that have the letters of a text, for pictures: no box stands for a letter without a word."""

from collections.abc import Iterable
from functools import cache
from pathlib import Path

# Parts of names of fonts that have most scripts, tried before the others.
_WIDE = ("cjk", "wqy", "unifont", "sourcehan", "notosans", "arialuni")


def default_font() -> Path:
    """Return DejaVu Sans, which comes with matplotlib and knows Latin, Greek and Cyrillic letters."""
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


@cache
def letters_of(font: Path) -> frozenset[int]:
    """Return the code points that a font has glyphs for; none if it cannot be read."""
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(str(font)).get_charmap())
    except (OSError, RuntimeError, ValueError):
        return frozenset()


@cache
def _installed() -> list[Path]:
    from matplotlib.font_manager import findSystemFonts

    def order(font: Path) -> tuple[bool, bool, str]:
        name = font.name.lower().replace("-", "").replace("_", "")
        return not any(part in name for part in _WIDE), "regular" not in name, str(font)

    return sorted(map(Path, findSystemFonts()), key=order)


@cache
def font_for(text: str) -> Path | None:
    """Find a font with all letters of a text: the default one where it has them, else one that is installed.

    Args:
        text: One line.

    Returns:
        Its file; None where no font has them all.
    """
    needed = {ord(letter) for letter in text}
    if needed <= letters_of(default_font()):
        return default_font()
    return next((font for font in _installed() if needed <= letters_of(font)), None)


def drawable(text: str) -> str:
    r"""Write the letters that no font has by their numbers, unless one font has the whole text.

    Args:
        text: Any text; control characters are left out.

    Returns:
        What can be drawn with :func:`font_for` of it.

    Example:
        >>> drawable("tabby\n cat")
        'tabby cat'
    """
    line = "".join(letter for letter in " ".join(text.split()) if letter.isprintable())
    if font_for(line) is not None:
        return line
    known = letters_of(default_font())
    return "".join(
        letter if ord(letter) in known else letter.encode("ascii", "backslashreplace").decode()
        for letter in line
    )


def not_drawable(texts: Iterable[str]) -> list[str]:
    """List the texts of which :func:`drawable` changes letters."""
    return [text for text in texts if "\\" in drawable(text) and "\\" not in text]
