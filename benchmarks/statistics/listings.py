"""What is derived from several tables, as rows of text for Markdown and HTML: intervals, scores, ranks."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from benchmarks.statistics.robustness import Robustness, robustness
from benchmarks.statistics.stability import Stability, stability
from benchmarks.tables.folding import Table, grouped
from benchmarks.tables.summaries import seeds_that_vary
from ddoq.errors import UserError
from ddoq.escaping import csv_text


@dataclass(frozen=True)
class Listing:
    """A table of texts.

    Attributes:
        title: What it shows.
        text: What a reader has to know of it.
        headers: A heading for each column.
        rows: Cells; empty where something is unknown.
        names: How many columns, from the left, hold names and no numbers.
        dataset: Name of the dataset.
        ipc: Images per class.
    """

    title: str
    text: str
    headers: list[str]
    rows: list[list[str]]
    names: int
    dataset: str
    ipc: int


CEILING = "The ceiling is `full`: students trained on all real training images under this recipe."
INTERVALS = (
    "Of the means over seeds, in %, by Student's t with n - 1 degrees of freedom. They speak for the seeds that vary and for "
    "nothing else, and take results as independent: where students share a distilled set and both seeds vary, they are too narrow."
)


def intervals(table: Table) -> Listing | None:
    """List the 95 % intervals of a table; None where no cell has two results."""
    cells = [[row.score(column) for column in table.columns] for row in table.rows]
    if not any(score and score.interval for row in cells for score in row):
        return None
    rows = [
        [
            row.label,
            *(score.percent_interval() if score else "" for score in scores),
            seeds_that_vary(row),
        ]
        for row, scores in zip(table.rows, cells, strict=True)
    ]
    headers = ["method", *table.columns, "seeds"]
    return Listing("95 % intervals", INTERVALS, headers, rows, 1, table.dataset, table.ipc)


_ROBUSTNESS = (
    "HLR is the accuracy of all real images minus that of the distilled set, both under the recipe with hard labels that is named; IOR "
    "is the distilled set minus random selection under its own recipe. LRS is DD-Ranking's label-robust score with w = 0.5, ARS its "
    "augmentation-robust score with g = 0.5; both lie in [0, 1], and 0.269 is neither gain nor loss. Accuracies are means over seeds, "
    "after the last epoch; differences are in points. All share dataset, student, teacher, precision and ranks. A score is "
    "left out where a result that it needs is missing, or there several times."
)


def robustness_listings(tables: Sequence[Table]) -> list[Listing]:
    """List label-robust and augmentation-robust scores, one listing for each dataset and number of images per class."""
    listings = []
    for same in grouped(
        robustness(tables), lambda entry: [entry.dataset, entry.distinction, entry.ipc]
    ):
        first = same[0]
        suffix = f" ({first.distinction})" if first.distinction else ""
        listings.append(
            Listing(
                f"Robust scores: {first.dataset}, {first.ipc} images per class{suffix}",
                _ROBUSTNESS,
                [
                    *("method", "student", "recipe", "hard labels", "without augmentation"),
                    *("HLR", "IOR", "LRS", "ARS", "missing"),
                ],
                [_robust(entry) for entry in same],
                5,
                first.dataset,
                first.ipc,
            )
        )
    return listings


def _robust(entry: Robustness) -> list[str]:
    names = [entry.row, entry.student, entry.recipe, entry.hard or "", entry.plain or ""]
    points = ["" if v is None else f"{100 * v:+.1f}" for v in (entry.hlr, entry.ior)]
    scores = ["" if v is None else f"{v:.3f}" for v in (entry.lrs, entry.ars)]
    return [*names, *points, *scores, "; ".join(entry.missing)]


_HEADINGS = {"distinction": "apart"}  # in CSV, where a field is called otherwise


def robustness_csv(tables: Sequence[Table]) -> str:
    """Write the scores and the accuracies that they come from as CSV, unrounded.

    Args:
        tables: Of :func:`benchmarks.tables.folding.fold`.

    Raises:
        UserError: If no score can be computed.
    """
    entries = robustness(tables)
    if not entries:
        raise UserError(
            "No robust score can be computed. LRS needs, for one student, the method and `full` under a recipe with hard labels "
            "(`--recipe.name hard`), and the method and `random` under its own recipe; ARS needs the method and `random` under "
            "the recipe with and without augmentation."
        )
    lines = [
        {
            **{_HEADINGS.get(k, k): v for k, v in asdict(entry).items() if k != "missing"},
            **{name: getattr(entry, name) for name in ("hlr", "ior", "lrs", "ars")},
            "missing": "; ".join(entry.missing),
        }
        for entry in entries
    ]
    return csv_text(lines)


def stability_listings(tables: Sequence[Table]) -> list[Listing]:
    """List ranks of methods and agreement of recipes, up to two listings for each dataset and number of images per class."""
    listings = []
    for entry in stability(tables):
        where = f"{entry.dataset}, {entry.ipc} images per class"
        where += f" ({entry.distinction})" if entry.distinction else ""
        if entry.ranks:
            listings.append(_ranks(entry, where))
        listings.append(_agreement(entry, where))
    return listings


def _ranks(entry: Stability, where: str) -> Listing:
    rows = [
        [label, *map(str, ranks), str(min(ranks)), str(max(ranks))]
        for label, ranks in entry.ranks.items()
    ]
    text = (
        f"Ranks under each recipe, by the mean over {', '.join(entry.students)} and over seeds, among the methods that all these "
        "recipes have; 1 is the best, equal means share the better rank."
    )
    headers = ["method", *entry.recipes, "best rank", "worst rank"]
    return Listing(f"Rank stability: {where}", text, headers, rows, 1, entry.dataset, entry.ipc)


def _agreement(entry: Stability, where: str) -> Listing:
    rows = [
        [
            each.first,
            each.second,
            ", ".join(each.methods),
            ", ".join(each.students),
            "" if each.tau is None else f"{each.tau:.2f}",
        ]
        for each in entry.agreements
    ]
    text = (
        "Kendall's tau-b between the orders of the methods that two recipes share: 1 is the same order, -1 the reverse; nothing where "
        "one of them puts all on one rank. Seeds and few methods make it coarse: with two methods it is 1 or -1."
    )
    headers = ["recipe", "other recipe", "methods", "students", "tau-b"]
    return Listing(
        f"Agreement of recipes: {where}", text, headers, rows, 4, entry.dataset, entry.ipc
    )
