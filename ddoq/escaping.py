"""Names and other texts of users as text in Markdown and CSV, whatever they hold."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tabulate import tabulate

# What a spreadsheet takes for a formula (https://owasp.org/www-community/attacks/CSV_Injection).
_FORMULA = ("=", "+", "-", "@")
_TAG = re.compile(r"<(?=[A-Za-z/!?])")
_ENTITY = re.compile(r"&(?=#?\w+;)")


def markdown(text: object) -> str:
    r"""Write any text so that Markdown shows it: no cell, tag, link or picture begins or ends in it.

    Args:
        text: One line or more; white space becomes single blanks, and what cannot be printed is left out.

    Returns:
        One line.

    Example:
        >>> print(markdown("a|b <script> [x](y)"))
        a\|b &lt;script> [x]\(y)
    """
    line = "".join(letter for letter in " ".join(str(text).split()) if letter.isprintable())
    line = line.replace("\\", "\\\\").replace("|", "\\|").replace("](", "]\\(")
    return _TAG.sub("&lt;", _ENTITY.sub("&amp;", line))


def markdown_table(
    headers: Sequence[object], rows: Sequence[Sequence[object]], align: Sequence[str] | None = None
) -> str:
    """Lay out a table, its cells as :func:`markdown` writes them.

    Args:
        headers: A heading a column.
        rows: Cells.
        align: ``left`` or ``right`` for each column; all left where omitted.

    Returns:
        Markdown of several lines.
    """
    cells = [[markdown(cell) for cell in row] for row in rows]
    heads = [markdown(head) for head in headers]
    return tabulate(cells, heads, "pipe", disable_numparse=True, colalign=align)


def csv_cell(value: Any) -> Any:
    """Write a value so that no spreadsheet takes it for a formula; numbers stay numbers.

    Args:
        value: Text, which gets an apostrophe in front where it begins as a formula does, or anything else.

    Returns:
        The value.

    Example:
        >>> csv_cell("=1+1"), csv_cell("-1.5"), csv_cell(-1.5)
        ("'=1+1", '-1.5', -1.5)
    """
    if not isinstance(value, str):
        return value
    text = value.encode("utf-8", "replace").decode("utf-8")  # lone surrogates have no encoding
    return f"'{text}" if text.lstrip().startswith(_FORMULA) and not _is_number(text) else text


def csv_text(lines: Sequence[Mapping[str, Any]]) -> str:
    """Write records as CSV, their cells as :func:`csv_cell` gives them.

    Args:
        lines: At least one; all have the keys of the first, which are the header.

    Returns:
        The text.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: csv_cell(value) for key, value in line.items()} for line in lines)
    return text.getvalue()


def has_surrogate(text: str) -> bool:
    """Say whether a text has code points that no encoding has: bytes of names of files that are not UTF-8."""
    return not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
