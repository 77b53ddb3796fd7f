"""The command `ddoq-bench export`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.commands.options import CommandParser
from ddoq.errors import UserError

if TYPE_CHECKING:  # `--help` must not wait for torch
    from ddoq.exchange import ScoreRow

LAYOUTS = ("imagefolder", "parquet")


def _parser(name: str) -> CommandParser:
    parser = CommandParser(
        name,
        "Write a distilled set so that others can read it, with a record and a dataset card. "
        "`ddoq-bench import` gives the same set again.",
        "Exit status: 0 all is well, 1 a result file was left out of the card (stderr says which), 2 a mistake.",
    )
    parser.add_argument("set", type=Path, metavar="SET", help="folder of a distilled set")
    parser.add_argument(
        "--format",
        choices=LAYOUTS,
        required=True,
        help="imagefolder: PNG files in a folder per class, labels.csv with weights; parquet: what Hugging Face's "
        "load_dataset reads, with class names and weights",
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", required=True, help="missing or empty"
    )
    parser.add_argument(
        "--results",
        type=Path,
        metavar="DIR",
        help="folder of result files; those of this very set go into the card",
    )
    parser.add_argument(
        "--set-precision",
        choices=("stored", "uint8"),
        default="stored",
        help="uint8 rounds float images to 8 bit, which makes another set of them",
    )
    parser.add_argument(
        "--push",
        metavar="USER/NAME",
        help="upload the export to the Hugging Face Hub; a new repository is private",
    )
    parser.add_argument("--public", action="store_true", help="make the new repository public")
    return parser


def run(name: str, arguments: list[str]) -> int:
    """Run ``ddoq-bench export``.

    Args:
        name: The command.
        arguments: What follows it.

    Returns:
        0 if all is well, 1 if a result file was left out of the card.

    Raises:
        UserError: For a mistake in the arguments or the set.
    """
    given = _parser(name).parse_args(arguments)
    from ddoq.distillation.distilled_set import DistilledSet
    from ddoq.exchange import export_set, push
    from ddoq.exchange.hub import check_name

    if given.public and not given.push:
        raise UserError("--public says how to --push; give both or neither.")
    if given.push:
        check_name(given.push)  # before the work, not after
    distilled = DistilledSet.load(given.set)
    if given.set_precision == "uint8":
        distilled = distilled.rounded()
    scores: list[ScoreRow] = []
    problems: list[str] = []
    if given.results is not None:
        scores, problems = score_rows(given.results, distilled.fingerprint)
        for problem in problems:
            print(problem, file=sys.stderr)
        if not scores:
            print(f"no result in {given.results} is of this set", file=sys.stderr)
    export_set(distilled, given.output, given.format, scores)
    print(
        f"{len(distilled)} images of {len(distilled.class_names)} classes, fingerprint {distilled.fingerprint}, "
        f"{len(scores)} scores in the card: {given.output}"
    )
    if given.push:
        print(f"uploaded to {push(given.output, given.push, public=given.public)}")
    return 1 if problems else 0


def score_rows(folder: Path, fingerprint: str) -> "tuple[list[ScoreRow], list[str]]":
    """Fold the results of one distilled set.

    Args:
        folder: Searched with all folders in it.
        fingerprint: Of the set.

    Returns:
        A row for each dataset, recipe and student, and a message for every file that was left out.

    Raises:
        UserError: If the folder does not exist.
    """
    from benchmarks.results.files import read_results
    from benchmarks.tables.folding import fold
    from ddoq.exchange import ScoreRow

    results, problems = read_results(folder)
    rows = []
    for table in fold(r for r in results if r.distilled.get("fingerprint") == fingerprint):
        recipe = f"{table.recipe} ({table.distinction})" if table.distinction else table.recipe
        for row in table.rows:
            for column in table.columns:
                score = row.score(column)
                # Rows of one set differ in how students were trained, say in their teacher.
                student = f"{column} ({row.label})" if len(table.rows) > 1 else column
                if score is not None:
                    rows.append(
                        ScoreRow(table.dataset, recipe, table.labels, student, score.percent())
                    )
    return rows, problems
