"""The end of a run whose results have a kind of their own: all cells, their table, and an error if one is missing."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning as L

from benchmarks.results.running import SealedRun
from benchmarks.results.sealed import Record
from benchmarks.run.kept import list_made
from benchmarks.run.ranks import Ranks
from benchmarks.tracking.artifacts import log_record
from benchmarks.tracking.loggers import WandbOptions
from ddoq.console import say
from ddoq.errors import UserError


def run_cells(
    run: SealedRun[Any, Record],
    trainer: L.Trainer,
    table: Callable[[Sequence[Record]], str],
    *,
    wandb: WandbOptions,
    force: bool = False,
    report: Path | None = None,
) -> list[Record]:
    """Run all cells, shared among the ranks, and print them.

    Args:
        run: The cells.
        trainer: That of the distillation; its ranks share the work.
        table: Writes results for the terminal.
        wandb: Whether and how new results go to W&B, a run each.
        force: Run again what is stored.
        report: File that shall list the results; see :func:`benchmarks.run.kept.list_made`.

    Returns:
        The results.

    Raises:
        UserError: If a cell has none, or failed now.
    """
    ranks = Ranks(trainer, run.output)
    ranks.destroy_process_group()
    log = functools.partial(log_record, wandb, run.output)
    failures = run.run(ranks.rank, ranks.world_size, force=force, made=log)
    ranks.barrier()
    records = run.records()
    say(table(records))
    places = run.places()
    list_made(report, trainer, [run.path(place) for place in places])
    missing = len(places) - len(records)
    if failures or missing:
        raise UserError(
            f"{missing} of {len(places)} students have no {run.noun}: "
            f"{'; '.join(failures) or 'those of another rank failed'}"
        )
    return records
