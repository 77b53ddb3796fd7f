"""Results of kinds of their own that nobody measured."""

from typing import Any

from benchmarks.results.graphs import GraphCell, GraphRecord
from benchmarks.results.kinds import KINDS
from benchmarks.results.sealed import SealedRecord
from benchmarks.results.transfers import UNTRAINED, TransferCell, TransferRecord
from ddoq.storage.run_folder import RunFolder


def graph_record(
    method="doscond", seed=0, test=0.5, ipc=10, student="gcn", distill_seed=0, **data: Any
) -> GraphRecord:
    """Make a result of graphs."""
    description = {"name": "toy", "val_graphs": 40, "test_graphs": 1000, "notes": [], **data}
    settings = {"ipc": ipc, "seed": distill_seed}
    return GraphRecord(
        cell=GraphCell("toy", method, ipc, student, seed, distill_seed),
        config={
            "data": description,
            "set": {"method": method, "seed": distill_seed, "settings": settings},
            "student": {"arch": student},
            "seed": seed,
            "protocol": {"epochs": 500, "batch_size": 128, "lr": 0.001, "validate_every": 1},
        },
        metric="accuracy",
        test_last=test,
        test_best=test + 0.1,
        val_best=0.7,
        best_epoch=7,
        train_loss=0.1,
        cost={"seconds": 1.0},
        distilled={"fingerprint": method, "stored_bytes": 2048},
        provenance={},
        created="2026-01-01T00:00:00+00:00",
    )


def transfer_record(start="krr_st", seed=0, top1=0.5) -> TransferRecord:
    """Make a result of transfer."""
    none = start == UNTRAINED
    distilled = None if none else {"method": start, "seed": 0, "settings": {"seed": 0}}
    return TransferRecord(
        cell=TransferCell(
            "toy", "other", start, 0 if none else 20, "resnet18", seed, None if none else 0
        ),
        config={
            "source": {"name": "toy"},
            "target": {"name": "other"},
            "set": distilled,
            "student": {"arch": "resnet18"},
            "seed": seed,
            "protocol": {"iterations": 500, "batch_size": 256, "pretrain_epochs": 300},
        },
        probe_top1=top1 - 0.1,
        tuned_top1=top1,
        pretrain_loss=None if none else 0.25,
        cost={"seconds": 1.0},
        distilled={},
        provenance={},
        created="2026-01-01T00:00:00+00:00",
    )


def write_records(output, *records: SealedRecord) -> None:
    """Write results as the files that they are."""
    for record in records:
        kind = next(kind for kind in KINDS if isinstance(record, kind.record))
        kind.write(kind.path(RunFolder(output), record.config_hash), record)
