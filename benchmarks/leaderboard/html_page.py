"""The leaderboard as one HTML page that needs no network: tables, plots, pictures, configurations."""

import base64
import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from benchmarks.leaderboard import plots
from benchmarks.leaderboard.published import published_numbers
from benchmarks.results.graphs import GraphRecord
from benchmarks.results.records import Result
from benchmarks.results.transfers import TransferRecord
from benchmarks.statistics.graphs import graph_listings
from benchmarks.statistics.listings import (
    CEILING,
    intervals,
    robustness_listings,
    stability_listings,
)
from benchmarks.statistics.transfers import transfer_listings
from benchmarks.tables.folding import FULL, Row, Table, fold, in_order
from benchmarks.tables.groups import Group, group
from benchmarks.tables.matching import ceilings
from benchmarks.tables.notes import provenance_notes
from benchmarks.tables.summaries import known_further, seeds_that_vary
from ddoq.errors import UserError
from ddoq.storage.files import read_json
from ddoq.storage.fingerprints import hash_config
from ddoq.storage.run_folder import RunFolder, SetFolder

_SHADES = 10  # classes h0 to h9 of the style sheet
_LARGEST_SHEET = 200_000  # bytes of a picture that is taken as it is; larger ones are reduced
_MOST_PIXELS = 2**25  # of a picture that is opened at all; sheets have up to ten million
_SHEET_SIDE = 900  # pixels of a reduced picture


@dataclass(frozen=True)
class HeatCell:
    """A mean in the heat map.

    Attributes:
        text: In %.
        shade: 0 for the lowest of the map, 9 for the highest.
    """

    text: str
    shade: int


def page(
    results: Sequence[Result],
    folder: Path,
    complaints: Sequence[str] = (),
    transfers: Sequence[TransferRecord] = (),
    graphs: Sequence[GraphRecord] = (),
) -> str:
    """Write results as one page.

    Args:
        results: Of classification of images; the order changes nothing.
        folder: Where they were read; pictures of distilled sets are looked for there.
        complaints: What keeps the tables from being whole.
        transfers: Results of transfer, which have tables of their own.
        graphs: Results of graphs, which have, too.

    Returns:
        HTML that holds everything it shows and asks the network for nothing. A policy in its head lets no
        script run but its own, and all names are escaped.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    groups = group(results)
    tables = fold(results)
    numbers = published_numbers()
    files = resources.files("benchmarks.leaderboard") / "templates"
    css, js, html = (
        (files / f"leaderboard.{ending}").read_text(encoding="utf-8")
        for ending in ("css", "js", "html")
    )
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    labels = [row.label for each in groups for row in each.whole.rows]
    text = environment.from_string(html).render(
        css=Markup(css),  # our own file, as the script is
        js=Markup(js),
        css_hash=_digest(css),
        js_hash=_digest(js),
        groups=groups,
        results=results,
        published=numbers,
        datasets={each.whole.dataset for each in groups},
        published_datasets=sorted({number.dataset for number in numbers}),
        filters=_filters(groups, numbers),
        complaints=complaints,
        further=known_further,
        styles=plots.styles(labels),
        plots=plots,
        sheets=sheets(results, folder),
        anchor=_anchor,
        teachers=plots.ceilings,
        ceilings=ceilings,
        ceiling=CEILING,
        FULL=FULL,
        intervals=intervals,
        robust=robustness_listings(tables),
        stable=stability_listings(tables),
        count=len(results) + len(transfers) + len(graphs),
        transfers=transfer_listings(transfers),
        graphs=graph_listings(graphs),
        heat=heat,
        seeds=seeds_that_vary,
        settings=settings,
        notes=_notes,
        sheet_of=_sheet_of,
    )
    # A file name that is not UTF-8 reaches messages as lone surrogates, which no encoding has.
    return text.lstrip().encode("utf-8", "replace").decode("utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _anchor(item: Group | Table | Row) -> str:
    """Name a place on the page by what is there."""
    if isinstance(item, Group):
        return f"group-{_anchor(item.tables[0])}"
    rows = item.rows if isinstance(item, Table) else [item]
    prefix = "table" if isinstance(item, Table) else "config"
    hashes = sorted(result.config_hash for row in rows for result in row.results)
    return f"{prefix}-{hash_config(hashes)}"


def _filters(groups: Iterable[Group], numbers: Iterable[Any]) -> list[dict[str, Any]]:
    """List what can be chosen."""
    wholes = [each.whole for each in groups]
    budgets = {ipc for each in groups for ipc in each.budgets}
    budgets |= {number.ipc for number in numbers if number.ipc is not None}
    datasets = {whole.dataset for whole in wholes} | {number.dataset for number in numbers}
    return [
        {"key": "dataset", "label": "Dataset", "options": sorted(datasets)},
        {"key": "ipc", "label": "Images per class", "options": sorted(budgets)},
        {"key": "recipe", "label": "Recipe", "options": sorted({w.recipe for w in wholes})},
        {"key": "labels", "label": "Labels", "options": sorted({w.labels for w in wholes})},
    ]


def heat(group: Group) -> list[tuple[str, int, list[HeatCell | None]]]:
    """Shade the mean of every row and student by where it lies between the lowest and the highest of the group.

    Args:
        group: Any group.

    Returns:
        For each row (without the ceiling ``full`` where there are others) and number of images per class the name, the number, and a cell per student.
    """
    students = group.whole.columns
    # Beside all real images the differences between methods would have one shade.
    listed = [
        (row, table.ipc)
        for table in group.tables
        for row in table.rows
        if row.method != FULL or group.whole.is_full
    ]
    means = {
        (row.label, ipc, student): score.mean
        for row, ipc in listed
        for student in students
        if (score := row.score(student))
    }
    low, high = min(means.values()), max(means.values())

    def cell(key: tuple[str, int, str]) -> HeatCell | None:
        if key not in means:
            return None
        share = 0.5 if high == low else (means[key] - low) / (high - low)
        return HeatCell(f"{100 * means[key]:.1f}", min(int(share * _SHADES), _SHADES - 1))

    return [
        (row.label, ipc, [cell((row.label, ipc, student)) for student in students])
        for row, ipc in listed
    ]


def settings(row: Row) -> str:
    """Write the configurations of a row's results as JSON: what they share once, then what differs.

    Args:
        row: Any row.

    Returns:
        A mapping with ``shared`` and ``results``; shared and a result's own values make up its whole ``config``.
    """
    results = in_order(row.results)
    shared, remainders = split([result.config for result in results])
    listed = [
        {
            "file": f"{result.config_hash}.json",
            "top1_last": result.metrics.top1_last,
            "config": rest,
        }
        for result, rest in zip(results, remainders, strict=True)
    ]
    return json.dumps({"shared": shared, "results": listed}, indent=2, ensure_ascii=False)


def split(items: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Split mappings into what they share and what is each one's own.

    Args:
        items: Nested mappings; at least one.

    Returns:
        The shared part, and the rest of each.

    Example:
        >>> split([{"a": 1, "b": {"c": 2, "d": 3}}, {"a": 1, "b": {"c": 2, "d": 4}}])
        ({'a': 1, 'b': {'c': 2}}, [{'b': {'d': 3}}, {'b': {'d': 4}}])
    """
    if len(items) == 1:
        return dict(items[0]), [{}]
    shared: dict[str, Any] = {}
    remainders: list[dict[str, Any]] = [{} for _ in items]
    for key in dict.fromkeys(key for item in items for key in item):
        values = [item[key] for item in items if key in item]
        if len(values) == len(items) and all(isinstance(value, dict) for value in values):
            same, rests = split(values)
            if same or not any(rests):
                shared[key] = same
            for remainder, rest in zip(remainders, rests, strict=True):
                if rest:
                    remainder[key] = rest
        elif len(values) == len(items) and all(value == values[0] for value in values):
            shared[key] = values[0]
        else:
            for remainder, item in zip(remainders, items, strict=True):
                if key in item:
                    remainder[key] = item[key]
    return shared, remainders


def _notes(table: Table) -> list[str]:
    return [line.removeprefix("- ") for line in provenance_notes(table).splitlines()]


def _sheet_of(row: Row, pictures: Mapping[str, str]) -> tuple[Result, str] | None:
    """Return the picture of the row's first distilled set that has one."""
    for result in sorted(row.results, key=lambda r: (r.cell.distill_seed or 0, r.config_hash)):
        picture = pictures.get(str(result.distilled.get("fingerprint")))
        if picture:
            return result, picture
    return None


def sheets(results: Iterable[Result], folder: Path) -> dict[str, str]:
    """Find the pictures of distilled sets: each lies as ``images.png`` beside the set's ``metadata.json``.

    Args:
        results: Whose sets are wanted.
        folder: Searched with all folders in it; if it is called ``results``, its parent is.

    Returns:
        ``data:`` addresses by fingerprint of the set. What is missing or cannot be read is left out.
    """
    wanted = {str(result.distilled.get("fingerprint")) for result in results}
    root = folder.resolve().parent if folder.resolve().name == RunFolder.RESULTS else folder
    addresses: dict[str, str] = {}
    for path in sorted(root.rglob(SetFolder.SHEET)):
        try:
            record = read_json(SetFolder(path.parent).record)
            fingerprint = str(record.get("fingerprint")) if isinstance(record, dict) else ""
            if fingerprint in wanted and fingerprint not in addresses:
                addresses[fingerprint] = _data_address(path)
        except (UserError, OSError, ValueError, SyntaxError):
            continue
    return addresses


def _data_address(path: Path) -> str:
    from PIL import Image

    content, kind = path.read_bytes(), "png"
    try:
        opened = Image.open(io.BytesIO(content), formats=["PNG"])
    except Image.DecompressionBombError as error:
        raise ValueError(str(error)) from None
    with opened as image:
        if image.width * image.height > _MOST_PIXELS:
            raise ValueError("no sheet of this package is as large")
        image.load()  # raises for what is no picture
        if len(content) > _LARGEST_SHEET:
            small = image.convert("RGB")
            small.thumbnail((_SHEET_SIDE, _SHEET_SIDE))
            stream = io.BytesIO()
            small.save(stream, "JPEG", quality=80)
            content, kind = stream.getvalue(), "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
