r"""The leaderboard as LaTeX: one booktabs table each, ready for ``\input``."""

from collections.abc import Iterable, Sequence

from benchmarks.statistics.listings import Listing
from benchmarks.tables.folding import Row, Score, Table
from benchmarks.tables.matching import ceilings
from benchmarks.tables.notes import provenance_notes
from benchmarks.tables.summaries import seeds_that_vary

_PREAMBLE = """% Tables of ddoq-bench leaderboard. Needs \\usepackage{booktabs}, and UTF-8 input for names that are not ASCII.
% Published numbers are not among them; a cell is the mean and the sample standard deviation over n results that
% differ in seeds alone; an empty cell was not run."""
_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedblright{}",
    "[": "{[}",  # after a line break a bracket would begin an optional argument
    "]": "{]}",
    "*": "{*}",  # as would a star
    "±": r"$\pm$",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def escape(text: str) -> str:
    r"""Write any text so that LaTeX prints it as it is.

    Args:
        text: One line or more; white space becomes single blanks and control characters are left out.

    Returns:
        LaTeX source.

    Example:
        >>> print(escape("a_b & 50%"))
        a\_b \& 50\%
    """
    line = "".join(character for character in " ".join(text.split()) if character.isprintable())
    return "".join(_SPECIAL.get(character, character) for character in line)


def latex(
    tables: Iterable[Table], complaints: Iterable[str] = (), listings: Iterable[Listing] = ()
) -> str:
    """Lay out tables.

    Args:
        tables: What to show.
        complaints: What keeps them from being whole; written as comments.
        listings: Tables of results of other kinds, which come last.

    Returns:
        LaTeX source, the same for the same tables. How the numbers were made stands in comments.
    """
    tables = list(tables)
    parts = [_PREAMBLE]
    for index, table in enumerate(tables, start=1):
        parts.append(_table(table, index, ceilings(table, tables)))
    for index, listing in enumerate(listings, start=len(tables) + 1):
        parts.append(_listing(listing, index))
    omissions = list(complaints)
    if omissions:
        parts.append(_comment(["Left out:", *omissions]))
    return "\n\n".join(parts) + "\n"


def _table(table: Table, index: int, tops: Sequence[Row]) -> str:
    rows = [*table.rows, *tops]
    counts = {score.n for row in rows for column in table.columns if (score := row.score(column))}
    n = counts.pop() if len(counts) == 1 else None
    lines = [
        _comment(provenance_notes(table).splitlines()),
        _comment([f"Seeds of {row.label}: {seeds_that_vary(row)}" for row in rows]),
        r"\begin{table}",
        r"  \centering",
        f"  \\caption{{{_caption(table, n)}}}",
        f"  \\label{{tab:ddoq-bench-{index}}}",
        r"  \smallskip",
        f"  \\begin{{tabular}}{{l{'r' * (len(table.columns) + 1)}}}",
        r"    \toprule",
        f"    {_line(['method', *map(escape, table.columns), 'mean'])}",
        r"    \midrule",
        *(f"    {_line(_cells(table, row, n))}" for row in table.rows),
        *([r"    \midrule"] if tops else []),
        *(f"    {_line(_cells(table, row, n, ' (all real images)'))}" for row in tops),
        r"    \bottomrule",
        r"  \end{tabular}",
        *_intervals(table, rows),
        r"\end{table}",
    ]
    return "\n".join(lines)


def _listing(listing: Listing, index: int) -> str:
    """Lay out a table of texts; what a reader has to know of it stands in its caption."""
    text = listing.text.replace("**", "").replace("`", "")  # Markdown of its own
    columns = "l" * listing.names + "r" * (len(listing.headers) - listing.names)
    lines = [
        r"\begin{table}",
        r"  \centering",
        f"  \\caption{{{escape(f'{listing.title}. {text}')}}}",
        f"  \\label{{tab:ddoq-bench-{index}}}",
        r"  \smallskip",
        f"  \\begin{{tabular}}{{{columns}}}",
        r"    \toprule",
        f"    {_line(map(escape, listing.headers))}",
        r"    \midrule",
        *(f"    {_line(map(escape, row))}" for row in listing.rows),
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines)


def _caption(table: Table, n: int | None) -> str:
    suffix = f" ({table.distinction})" if table.distinction else ""
    images = "1 image per class" if table.ipc == 1 and not table.is_full else table.budget
    what = f"{table.dataset}, {images}, recipe {table.recipe}, {table.labels} labels{suffix}"
    if n == 1:
        spread = "one result per cell"
    else:
        over = "$n$ results (in brackets)" if n is None else f"$n = {n}$ results"
        spread = f"mean and sample standard deviation over {over} that differ in seeds alone"
    return f"{escape(what)}. Top-1 accuracy on the real test set after the last epoch, in \\%: {spread}."


def _intervals(table: Table, rows: Iterable[Row]) -> list[str]:
    """Write the 95 % intervals as a note beneath the table; nothing where no cell has two results."""
    notes = []
    for row in rows:
        scores = [(column, row.score(column)) for column in table.columns]
        known = [(column, s.interval) for column, s in scores if s and s.interval]
        if known:
            ends = (
                f"{escape(c)} ${100 * low:.1f}$ to ${100 * high:.1f}$" for c, (low, high) in known
            )
            notes.append(f"{escape(row.label)}: {', '.join(ends)}")
    if not notes:
        return []
    lead = r"95\,\% intervals of the means over seeds (Student's $t$, $n - 1$ degrees of freedom)"
    return [
        r"  \par\smallskip",
        f"  \\parbox{{0.95\\linewidth}}{{\\footnotesize {lead}. {'; '.join(notes)}.}}",
    ]


def _cells(table: Table, row: Row, n: int | None, note: str = "") -> list[str]:
    mean = row.mean(table.columns)
    scores = [_score(row.score(column), with_count=n is None) for column in table.columns]
    return [escape(row.label + note), *scores, "" if mean is None else f"${100 * mean:.1f}$"]


def _score(score: Score | None, *, with_count: bool) -> str:
    if score is None:
        return ""
    spread = "" if score.std is None else f" \\pm {100 * score.std:.1f}"
    return f"${100 * score.mean:.1f}{spread}$" + (f" ({score.n})" if with_count else "")


def _line(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"


def _comment(lines: Iterable[str]) -> str:
    """Write comments; a text of several lines stays one comment, so nothing in it is typeset."""
    return "\n".join(f"% {' '.join(line.split())}" for line in lines)
