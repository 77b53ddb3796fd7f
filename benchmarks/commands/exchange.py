"""The commands `ddoq-bench export` and `ddoq-bench import`."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.configuration.arguments import CommandParser
from ddoq.errors import UserError

if TYPE_CHECKING:  # `--help` must not wait for torch
    from ddoq.exchange import ClassList, ScoreRow

_LAYOUTS = ("imagefolder", "parquet")


def _export_parser() -> CommandParser:
    parser = CommandParser(
        prog="ddoq-bench export",
        description="Write a distilled set so that others can read it, with a record and a dataset card. "
        "`ddoq-bench import` gives the same set again.",
        epilog="Exit status: 0 all is well, 1 a result file was left out of the card (stderr says which), 2 a mistake.",
    )
    parser.add_argument("set", type=Path, metavar="SET", help="folder of a distilled set")
    parser.add_argument(
        "--format",
        choices=_LAYOUTS,
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
        "--push",
        metavar="USER/NAME",
        help="upload the export to the Hugging Face Hub; a new repository is private",
    )
    parser.add_argument("--public", action="store_true", help="make the new repository public")
    return parser


def export_main(args: list[str]) -> int:
    """Run ``ddoq-bench export``.

    Args:
        args: What follows the command.

    Returns:
        0 if all is well, 1 if a result file was left out of the card, 2 for a mistake of the user's.
    """
    try:
        return _export(_export_parser().parse_args(args))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _export(given: argparse.Namespace) -> int:
    from ddoq.distillation.distilled_set import DistilledSet
    from ddoq.exchange import export_set, push
    from ddoq.exchange.hub import check_name

    if given.public and not given.push:
        raise UserError("--public says how to --push; give both or neither.")
    if given.push:
        check_name(given.push)  # before the work, not after
    distilled = DistilledSet.load(given.set)
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
        recipe = f"{table.recipe} ({table.apart})" if table.apart else table.recipe
        for row in table.rows:
            for column in table.columns:
                score = row.score(column)
                # Rows of one set differ in how students were trained, say in their teacher.
                told = f"{column} ({row.label})" if len(table.rows) > 1 else column
                if score is not None:
                    rows.append(
                        ScoreRow(table.dataset, recipe, table.labels, told, score.percent())
                    )
    return rows, problems


def _import_parser() -> CommandParser:
    parser = CommandParser(
        prog="ddoq-bench import",
        description="Read a distilled set that was made elsewhere, or an export, as a distilled set for "
        "`ddoq-bench evaluate --distilled`.",
        epilog="Exit status: 0 all is well, 2 a mistake in the source or the arguments.",
    )
    parser.add_argument(
        "source",
        type=Path,
        metavar="SOURCE",
        help="a folder per class (00003, new003, keys or names), a parquet file, or a folder of parquet files",
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", required=True, help="missing or empty"
    )
    parser.add_argument(
        "--classes",
        metavar="FROM",
        help="classes in label order: a distilled set of the same dataset, a JSON list of names, keys or {key, name} "
        "objects, or `source` for the source's own names; not needed for an export",
    )
    parser.add_argument("--method", metavar="NAME", help="what results call the set, e.g. rded")
    parser.add_argument(
        "--image-size",
        type=int,
        metavar="N",
        help="bring the shorter side to N pixels and cut out the centre, as the datasets do",
    )
    parser.add_argument(
        "--numeric",
        action="store_true",
        help="class folders are labels although they are not padded with zeros (0, 1, 10, 2)",
    )
    parser.add_argument(
        "--collage",
        type=int,
        metavar="N",
        help="every image is a grid of N x N patches, which recipes may shuffle (RDED: 2)",
    )
    parser.add_argument("--image-column", default="image", metavar="NAME", help="of a parquet file")
    parser.add_argument("--label-column", default="label", metavar="NAME", help="of a parquet file")
    parser.add_argument(
        "--weight-column",
        default="weight",
        metavar="NAME",
        help="of a parquet file, where it has one; `none` gives every image the weight 1",
    )
    return parser


def import_main(args: list[str]) -> int:
    """Run ``ddoq-bench import``.

    Args:
        args: What follows the command.

    Returns:
        0 if all is well, 2 for a mistake of the user's.
    """
    try:
        return _import(_import_parser().parse_args(args))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _import(given: argparse.Namespace) -> int:
    from ddoq.distillation.figures import image_sheet
    from ddoq.exchange import Columns, import_set
    from ddoq.exchange.record import whole_folder
    from ddoq.storage.run_folder import SetFolder

    weight = None if given.weight_column == "none" else given.weight_column
    with whole_folder(given.output) as folder:
        distilled = import_set(
            given.source,
            _classes(given.classes, given.source),
            method=given.method,
            image_size=given.image_size,
            numeric=given.numeric,
            collage=given.collage,
            columns=Columns(given.image_column, given.label_column, weight),
        )
        distilled.save(folder)
        names = distilled.class_names
        sheet = SetFolder(folder).sheet  # where the leaderboard looks for it
        image_sheet(distilled.images, distilled.labels, distilled.weights, names, sheet)
    codec = distilled.metadata.get("imported", {}).get("codec")
    print(
        f"{len(distilled)} images of {len(names)} classes ({', '.join(names[:3])}, ...), "
        f"{f'codec {codec}, ' if codec else ''}fingerprint {distilled.fingerprint}: {given.output}"
    )
    return 0


def _classes(given: str | None, source: Path) -> "ClassList | None":
    from ddoq.exchange import read_class_list
    from ddoq.exchange.record import read_record

    if given is None and not (source.is_dir() and read_record(source)) and source.exists():
        raise UserError(
            "Say with --classes in which order the classes come: a distilled set of the same dataset, a JSON list, or "
            "`source` for the source's own names. A wrong order makes every result worthless."
        )
    return None if given in (None, "source") else read_class_list(Path(given))
