"""The command `ddoq-bench check`: reads every image of a dataset and says what is odd."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.commands.options import CommandParser, add_limits, limits_of
from ddoq.errors import UserError

if TYPE_CHECKING:  # `--help` must not wait for torch
    from ddoq.data import ImageSplit
    from ddoq.data.decoding import ImageLimits
    from ddoq.data.inspection import Inspection

_TEST_FOLDERS = ("val", "test", "validation")
_LISTED = 20  # pairs of equal images, sizes, classes


@dataclass(frozen=True)
class Data:
    """What is checked.

    Attributes:
        splits: By title; where there are two, the first is the training split.
        classes: Names in label order.
        fingerprint: Computes it; called where all images can be read.
    """

    splits: "Mapping[str, ImageSplit]"
    classes: Sequence[str]
    fingerprint: Callable[[], str]


def _parser(name: str) -> CommandParser:
    parser = CommandParser(
        name,
        "Read every image of a dataset: which cannot be decoded, sizes, modes, images a class, test images that are "
        "training images (exact copies, by decoded pixels), and the fingerprint. Give DATA, or the options of a "
        "configuration (--config C and further ones, as for fit).",
        "Exit status: 0 all is well, 1 something was found, 2 a mistake in the arguments or a dataset that cannot be opened.",
    )
    parser.add_argument(
        "data",
        type=Path,
        nargs="+",
        metavar="DATA",
        help="a folder with train and val (or test), folders of classes, or parquet files; of two the first is for training",
    )
    add_limits(parser)
    parser.add_argument("--image-column", default="image", metavar="NAME", help="of parquet files")
    parser.add_argument("--label-column", default="label", metavar="NAME", help="of parquet files")
    return parser


def run(name: str, arguments: list[str]) -> int:
    """Run ``ddoq-bench check``.

    Args:
        name: The command.
        arguments: What follows it.

    Returns:
        0 if all is well, 1 if something was found.

    Raises:
        UserError: For a mistake in the arguments, or if the dataset cannot be opened.
    """
    configured = any(item.partition("=")[0] in ("--config", "-c") for item in arguments)
    data = _of_config(name, arguments) if configured else _of_paths(_parser(name), arguments)
    from ddoq.data.inspection import inspect_split

    seen = {title: inspect_split(split, title) for title, split in data.splits.items()}
    for line in describe(data, seen):
        print(line)
    found = findings(data, seen)
    if not any(inspection.faults for inspection in seen.values()):
        print(f"fingerprint: {data.fingerprint()}")
    print("\n".join(found) if found else "nothing was found")
    return 1 if found else 0


def _of_config(name: str, arguments: list[str]) -> Data:
    """Open the dataset of a configuration, whole: its limits per class do not count."""
    from benchmarks.commands.configured import configure
    from ddoq.data import ImageDataModule

    module = configure(name, arguments).datamodule
    if not isinstance(module, ImageDataModule):
        raise UserError(
            f"`ddoq-bench {name}` reads images, but {module.name} holds {module.holds}."
        )
    train, test, module.classes = module.load_splits()
    module.check_splits(train, test)

    def fingerprint() -> str:
        module.setup()
        return str(module.fingerprint)

    return Data({"train": train, "test": test}, module.classes.names, fingerprint)


def _of_paths(parser: CommandParser, arguments: list[str]) -> Data:
    given = parser.parse_args(arguments)
    limits = limits_of(given)
    paths: list[Path] = given.data
    if len(paths) == 1 and (paths[0] / "train").is_dir():
        return _of_root(paths[0], limits)
    from ddoq.storage.fingerprints import hash_config

    parts = [_of_path(path, given, limits) for path in paths]
    if len(parts) > 2:
        raise UserError("Give one split, or two: the training split and the test split.")
    if parts[0].classes != parts[-1].classes:
        raise UserError(f"{paths[0]} and {paths[1]} have other classes, or in another order.")
    splits = {title: split for part in parts for title, split in part.splits.items()}
    if len(splits) < len(parts):
        raise UserError(f"{paths[0]} is given twice.")
    hashes = [part.fingerprint for part in parts]
    if len(hashes) == 1:
        return parts[0]
    return Data(splits, parts[0].classes, lambda: hash_config([each() for each in hashes]))


def _of_root(root: Path, limits: "ImageLimits") -> Data:
    """Open a folder as ``ImageFolderImages`` would."""
    from ddoq.data import ImageFolderImages

    test = next((name for name in _TEST_FOLDERS if (root / name).is_dir()), None)
    if test is None:
        raise UserError(f"{root} has a folder train, but none of {', '.join(_TEST_FOLDERS)}.")
    module = ImageFolderImages(
        str(root),
        root.name or "data",
        image_size=1,  # nothing is resized
        test_folder=test,
        cache_images=False,
        max_pixels=limits.max_pixels,
        max_aspect_ratio=limits.max_aspect_ratio,
    )
    train, tested, registry = module.load_splits()
    return Data({"train": train, test: tested}, registry.names, module.source_fingerprint)


def _of_path(path: Path, given: Any, limits: "ImageLimits") -> Data:
    import torch

    from ddoq.data.imagefolder import FileSplit, list_split
    from ddoq.data.tables import ParquetSource, RowSplit, label_column_of
    from ddoq.exchange.parquet import parquet_files
    from ddoq.storage.fingerprints import hash_files

    if not path.exists():
        raise UserError(f"{path} does not exist.")
    tables = parquet_files(path)
    if not tables and not path.is_dir():
        raise UserError(f"{path} is neither a folder nor a .parquet file.")
    if not tables:
        members = list_split(path)
        files = [file for group in members.values() for file in group]
        counts = torch.tensor([len(group) for group in members.values()])
        labels = torch.arange(len(counts)).repeat_interleave(counts)
        split = FileSplit(files, labels, 1, limits)
        return Data({str(path): split}, list(members), lambda: hash_files(files))
    source = ParquetSource("DATA", [str(file) for file in tables])
    table = source.open()
    column = label_column_of(table, given.image_column, given.label_column, str(path))
    names = column.names or list(map(str, sorted(set(column.values))))
    index = range(len(names)) if column.names else sorted(set(column.values))
    numbers = {value: label for label, value in enumerate(index)}
    labels = torch.tensor([numbers.get(value, -1) for value in column.values])
    rows = RowSplit(table, given.image_column, labels, 1, source.row, limits)
    return Data({str(path): rows}, names, source.identity)


def describe(data: Data, seen: "Mapping[str, Inspection]") -> list[str]:
    """Say what there is.

    Args:
        data: What was checked.
        seen: What was seen in each split.

    Returns:
        Lines.
    """
    lines = []
    for title, inspection in seen.items():
        sizes = Counter({f"{w}x{h}": n for (w, h), n in inspection.sizes.items()})
        lines += [
            f"{title}: {inspection.images} images",
            f"  sizes: {_counts(sizes)}",
            f"  modes: {_counts(inspection.modes)}",
            f"  formats: {_counts(inspection.formats)}",
            f"  equal to an earlier image of the split: {inspection.repeated()}",
        ]
    lines.append(f"{len(data.classes)} classes, images in {' and '.join(seen)}:")
    numbers = [Counter(split.labels.tolist()) for split in data.splits.values()]
    shown = range(min(len(data.classes), _LISTED))
    lines += [
        f"  {label} {data.classes[label]!r}: {', '.join(str(n[label]) for n in numbers)}"
        for label in shown
    ]
    if len(data.classes) > _LISTED:
        totals = [[n[label] for label in range(len(data.classes))] for n in numbers]
        ranges = " and ".join(f"{min(total)} to {max(total)}" for total in totals)
        lines.append(f"  and {len(data.classes) - _LISTED} more; of all {ranges} images a class")
    return lines


def findings(data: Data, seen: "Mapping[str, Inspection]") -> list[str]:
    """Say what is wrong.

    Args:
        data: What was checked.
        seen: What was seen in each split.

    Returns:
        Lines; none if nothing is. All images that cannot be used are listed.
    """
    lines = []
    for title, inspection in seen.items():
        lines += [f"UNREADABLE {fault}" for fault in inspection.faults]
        lines += [
            f"TWO LABELS {title}: {', '.join(f'{p.name} ({p.label})' for p in places)}: equal images"
            for places in inspection.contradictions()[:_LISTED]
        ]
    for title, split in data.splits.items():
        present = set(split.labels.tolist())
        empty = [n for label, n in enumerate(data.classes) if label not in present]
        if empty:
            lines.append(f"NO IMAGE {title} has none of {len(empty)} classes: {empty[:_LISTED]}")
        if present and min(present) < 0:
            lines.append(f"NO LABEL {title} has images without a label")
    if len(seen) == 2:
        train, test = seen.values()
        pairs = train.shared(test)
        lines += [f"IN BOTH {b.name} is {a.name}" for a, b in pairs[:_LISTED]]
        if len(pairs) > _LISTED:
            lines.append(f"IN BOTH {len(pairs)} test images in all are training images")
    return lines


def _counts(counts: Counter[str]) -> str:
    """List the most frequent values.

    Example:
        >>> _counts(Counter({"RGB": 5, "grey": 2}))
        'RGB (5), grey (2)'
    """
    shown = ", ".join(f"{value} ({count})" for value, count in counts.most_common(5))
    return f"{shown} and {len(counts) - 5} more" if len(counts) > 5 else shown
