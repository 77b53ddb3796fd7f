"""From a distilled set to a folder that others can read."""

from collections.abc import Callable, Sequence
from pathlib import Path

from ddoq.distillation.distilled_set import DistilledSet
from ddoq.errors import UserError, suggest
from ddoq.exchange.card import ScoreRow, dataset_card
from ddoq.exchange.imagefolder import write_imagefolder
from ddoq.exchange.parquet import write_parquet
from ddoq.exchange.record import exported_labels, whole_folder, write_record

_WRITERS: dict[str, Callable[[DistilledSet, Path], None]] = {
    "imagefolder": write_imagefolder,
    "parquet": write_parquet,
}
LAYOUTS = tuple(_WRITERS)


def export_set(
    distilled: DistilledSet, folder: Path, layout: str, scores: Sequence[ScoreRow] = ()
) -> None:
    """Write a distilled set with its record and a dataset card; importing it gives the same set again.

    Args:
        distilled: What to write.
        folder: Where to; missing or empty. It appears only whole.
        layout: ``imagefolder`` or ``parquet``.
        scores: What students reached that learned from it, for the card.

    Raises:
        UserError: If the layout is unknown, the folder holds something, or the set does not fit the layout.
    """
    if layout not in _WRITERS:
        raise UserError(f"Unknown format {layout!r}. {suggest(layout, LAYOUTS)}")
    exported_labels(distilled)  # refuses before anything is written
    with whole_folder(folder) as unfinished:
        _WRITERS[layout](distilled, unfinished)
        write_record(unfinished, distilled, layout)
        card = dataset_card(distilled, layout, scores)
        (unfinished / "README.md").write_text(card, encoding="utf-8")
