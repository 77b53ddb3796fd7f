"""Does a result of graphs come out again? What was recorded of each stage beside what was derived anew."""

from collections.abc import Mapping
from typing import Any

from benchmarks.results.graphs import GraphRecord
from benchmarks.run.verification import (
    Stage,
    compare_bits,
    compare_entries,
    compare_method,
    compare_number,
)

_SCORES = ("test_last", "test_best", "val_best")


def compare_graph_choices(
    record: GraphRecord,
    description: Mapping[str, Any],
    method: str | None,
    settings: Mapping[str, Any] | None,
    protocol: Mapping[str, Any],
) -> list[Stage]:
    """Compare dataset, method and protocol, before anything is trained.

    Args:
        record: As recorded.
        description: Of the dataset, as JSON values.
        method: Name of the method; None where a set is given.
        settings: Its settings, as JSON values; None likewise.
        protocol: How students learn, as JSON values.

    Returns:
        A line for each, or one for every value that differs.
    """
    config = record.config
    chosen = (config.get("set") or {}).get("settings") or {}
    epochs = f"{protocol.get('epochs')} epochs"
    return [
        *compare_entries("dataset", config.get("data") or {}, description, record.cell.dataset),
        *compare_method(record.cell.method, chosen, method, settings),
        *compare_entries("protocol", config.get("protocol") or {}, protocol, epochs),
    ]


def compare_graph_results(
    record: GraphRecord, derived: GraphRecord, *, exact: bool, tolerance: float
) -> list[Stage]:
    """Compare a result with the one that was derived anew.

    Args:
        record: As recorded.
        derived: As it came out.
        exact: Whether the same bits are expected: on the same machine, with the same versions, on a CPU.
        tolerance: Greatest difference of a score, as a fraction, where they are not.

    Returns:
        Lines for the set, the student and every number of the row.
    """
    who = f"{record.cell.student}, seed {record.cell.seed}"
    return [
        compare_bits("distilled set", _set_of(record), _set_of(derived), exact),
        *compare_entries("student", _student(record), _student(derived), who),
        *(
            compare_number(name, getattr(record, name), getattr(derived, name), exact, tolerance)
            for name in _SCORES
        ),
        compare_bits("best epoch", record.best_epoch, derived.best_epoch, exact),
        compare_bits("training loss", record.train_loss, derived.train_loss, exact),
    ]


def _set_of(record: GraphRecord) -> Any:
    return (record.config.get("set") or {}).get("fingerprint")


def _student(record: GraphRecord) -> dict[str, Any]:
    return {name: record.config.get(name) for name in ("student", "seed")}
