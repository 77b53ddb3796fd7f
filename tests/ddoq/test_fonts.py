from pathlib import Path

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen

from ddoq import fonts

CAT = "\u732b"


def write_font(path: Path, letters: str) -> Path:
    """Make a font whose every letter is a filled square."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 900), (900, 900), (900, 0)):
        pen.lineTo(corner)
    pen.closePath()
    square = pen.glyph()
    names = [".notdef", *(f"g{ord(letter):x}" for letter in letters)]
    builder = FontBuilder(1000)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(letter): f"g{ord(letter):x}" for letter in letters})
    builder.setupGlyf(dict.fromkeys(names, square))
    builder.setupHorizontalMetrics(dict.fromkeys(names, (1000, 0)))
    builder.setupHorizontalHeader(ascent=900, descent=0)
    builder.setupNameTable({"familyName": path.stem, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return path


@pytest.fixture
def install(monkeypatch):
    """Say which fonts are installed."""

    def set_to(*files):
        fonts._installed.cache_clear()
        fonts.font_for.cache_clear()
        monkeypatch.setattr(
            "matplotlib.font_manager.findSystemFonts", lambda: list(map(str, files))
        )

    yield set_to
    monkeypatch.undo()
    fonts._installed.cache_clear()
    fonts.font_for.cache_clear()


def test_a_font_that_has_the_letters_is_found(tmp_path, install):
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    other = write_font(tmp_path / "other.ttf", "abc")
    install(tmp_path / "broken.ttf", other, write_font(tmp_path / "cjk.ttf", CAT + "ab "))
    assert fonts.font_for("tabby") == fonts.default_font()
    assert fonts.font_for(f"a {CAT}") == tmp_path / "cjk.ttf"
    assert fonts.drawable(f"a {CAT}") == f"a {CAT}"
    assert fonts.not_drawable([CAT, "cat"]) == []


def test_letters_without_a_font_are_written_by_number(install):
    install()
    assert fonts.font_for(CAT) is None
    assert fonts.drawable(f"caf\u00e9 {CAT}\x00\n!") == "caf\u00e9 \\u732b !"
    assert fonts.not_drawable([CAT, "cat", "a\\b"]) == [CAT]
