"""The command `ddoq-bench import`."""

from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.commands.options import CommandParser, add_limits, limits_of
from ddoq.errors import UserError

if TYPE_CHECKING:  # `--help` must not wait for torch
    from ddoq.exchange import ClassList


def _parser(name: str) -> CommandParser:
    parser = CommandParser(
        name,
        "Read a distilled set that was made elsewhere, or an export, as a distilled set for "
        "`ddoq-bench evaluate --distilled`.",
        "Exit status: 0 all is well, 2 a mistake in the source or the arguments.",
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
    add_limits(parser)
    parser.add_argument(
        "--follow-links",
        action="store_true",
        help="read files outside SOURCE to which symbolic links in it lead, as in a snapshot of the hub's cache",
    )
    return parser


def run(name: str, arguments: list[str]) -> int:
    """Run ``ddoq-bench import``.

    Args:
        name: The command.
        arguments: What follows it.

    Returns:
        0.

    Raises:
        UserError: For a mistake in the arguments or the source.
    """
    given = _parser(name).parse_args(arguments)
    from ddoq.distillation.figures import set_sheet
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
            limits=limits_of(given),
            follow_links=given.follow_links,
        )
        distilled.save(folder)
        set_sheet(distilled, SetFolder(folder).sheet)  # where the leaderboard looks for it
    names = distilled.class_names
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
