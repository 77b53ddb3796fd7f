"""Ranks of one run: how long they wait, how they train students, and how they end."""

import contextlib
import os
import sys
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, TypeVar

import lightning as L
import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy, StrategyRegistry
from lightning.pytorch.trainer.connectors.signal_connector import _SignalConnector
from lightning_utilities.core.rank_zero import rank_zero_only
from torch.distributed import FileStore  # type: ignore[attr-defined]

from benchmarks.graphs.protocol import GraphProtocol
from benchmarks.run.parent import release_parent
from benchmarks.transfer.protocol import TransferProtocol
from ddoq.distillation.ranks import start_ranks
from ddoq.errors import UserError
from ddoq.storage.run_folder import RunFolder

# Ranks share work that is cut by classes and students, and one of them may train a prior meanwhile: a lag of hours is
# normal, while torch gives up after 30 minutes.
TIMEOUT = timedelta(days=7)

_Value = TypeVar("_Value")


_RENAMED = {"apart": "independent", "together": "ddp"}


@dataclass
class EvaluationOptions:
    """How students are evaluated: by which ranks, on which precision of the set, and by transfer where it has no classes.

    Attributes:
        ranks: ``independent``: every rank trains a share of the students, each on one device, which gives the numbers
            of a one-device run. ``ddp``: all ranks train each student, the recipe's batch shared among them; such rows
            are rows of their own in every table.
        sync_batchnorm: Only for ``ddp``: take the statistics of batch normalisation over the whole batch, which torch
            can do on GPUs alone. Otherwise each rank normalises its own share, and the statistics of rank 0 are tested.
        set_precision: ``uint8`` rounds a set of float images to 8 bit, a fourth of its bytes, before students learn from
            it; such rows are rows of their own in every table. ``stored`` takes every set as it is.
        transfer: How sets without classes are evaluated: their students are pre-trained, and tested on tasks with classes.
        graphs: How students learn from distilled graphs, in the place of a recipe.

    Raises:
        UserError: If ``ranks`` is another word.
    """

    ranks: str = "independent"
    sync_batchnorm: bool = True
    set_precision: Literal["stored", "uint8"] = "stored"
    transfer: TransferProtocol = field(default_factory=TransferProtocol)
    graphs: GraphProtocol = field(default_factory=GraphProtocol)

    def __post_init__(self) -> None:
        """Refuse other words, and say what those of earlier versions are called now."""
        if self.ranks not in ("independent", "ddp"):
            renamed = _RENAMED.get(self.ranks)
            mend = f"write {renamed!r}, its name now" if renamed else "write 'independent' or 'ddp'"
            raise UserError(f"There is no evaluation.ranks {self.ranks!r}: {mend}.")

    def joint(self, trainer: L.Trainer) -> bool:
        """Say whether the ranks of a run train each student together; one rank has nobody to train with."""
        return self.ranks == "ddp" and trainer.world_size > 1


def extend_timeouts() -> None:
    """Give every DDP strategy that is chosen by its name a timeout of :data:`TIMEOUT`.

    The strategies of Lightning's registry are registered anew with that one argument more. A strategy that is given
    as a class keeps the timeout it was given.
    """
    for name in StrategyRegistry.available_strategies():
        entry = StrategyRegistry[name]
        if entry["strategy"] is DDPStrategy:
            arguments = {"timeout": TIMEOUT, **entry["init_params"]}
            StrategyRegistry.register(
                name, DDPStrategy, entry["description"], override=True, **arguments
            )


def leave_sigterm() -> None:
    """Keep Lightning from handling SIGTERM: :mod:`benchmarks.run.interruption` does.

    Lightning would end a training by an exception whose exit status is 0, as if it were done, and would wait for
    the other ranks in a broadcast.
    """
    _SignalConnector._sigterm_notifier_fn = lambda *_: None  # type: ignore[method-assign]


def end_ranks(trainer: L.Trainer, kill: bool) -> None:
    """End the processes that Lightning launched.

    Args:
        trainer: Whose.
        kill: End them at once; else each ends in order.
    """
    processes = getattr(trainer.strategy.launcher, "procs", [])
    for process in processes:
        if process.poll() is None:
            process.kill() if kill else process.terminate()
    # Lightning looks after them every few seconds, and would kill this process because of their end.
    observers = [t for t in threading.enumerate() if t.name == "child-process-observer"]
    for observer in observers:
        setattr(observer, "_child_processes", [])  # noqa: B010 - unknown to type checkers


class Ranks:
    """The ranks of one run, once it comes to students.

    Either they train each student together, see :class:`JointRanks`. Or the process group is destroyed, and every rank is a
    one-device run of its own up to the barrier: metrics synchronise themselves wherever a process group exists, so a
    student that is trained and tested on one device must not find one. The barrier then goes through a file in the
    output folder, which all ranks share.

    Args:
        trainer: The trainer that distilled; processes that it has not launched yet are launched now.
        folder: A folder that all ranks see.

    Raises:
        UserError: If its strategy starts processes that do not outlive one call.
    """

    def __init__(self, trainer: L.Trainer, folder: Path) -> None:
        self.rank = trainer.global_rank
        self.world_size = trainer.world_size
        self._trainer = trainer
        self._init_process_group()
        token = trainer.strategy.broadcast(uuid.uuid4().hex)
        self._file = RunFolder(folder).ranks(token)
        self._independent = False

    def _init_process_group(self) -> None:
        """Start all processes and their group, where no distillation has done so (`evaluate --distilled`)."""
        if self.world_size > 1 and not dist.is_initialized():
            start_ranks(self._trainer)
            self._trainer.strategy.setup_environment()

    def destroy_process_group(self) -> None:
        """From here on this process acts as the first and only rank."""
        self._independent = True
        if self.world_size == 1:
            return
        if dist.is_initialized():
            self._trainer.strategy.barrier("before the process group is destroyed")
            dist.destroy_process_group()
        setattr(rank_zero_only, "rank", 0)  # noqa: B010 - a function attribute, unknown to type checkers

    def barrier(self) -> None:
        """Wait until every rank is done with its students; then only rank 0 speaks again, and each may end."""
        if not self._independent:
            self._trainer.strategy.barrier("students done")
            release_parent()
        elif self.world_size > 1:
            setattr(rank_zero_only, "rank", self.rank)  # noqa: B010
            self._file_barrier()

    def _file_barrier(self) -> None:
        ranks = range(self.world_size)
        store = FileStore(str(self._file), self.world_size)
        store.set(f"done-{self.rank}", "1")
        store.wait([f"done-{rank}" for rank in ranks], TIMEOUT)
        release_parent()
        store.set(f"left-{self.rank}", "1")
        if self.rank == 0:
            store.wait([f"left-{rank}" for rank in ranks], TIMEOUT)
            with contextlib.suppress(FileNotFoundError):
                self._file.unlink()


class JointRanks:
    """Collectives of ranks that train each student together.

    Args:
        trainer: The trainer whose process group they form.
    """

    def __init__(self, trainer: L.Trainer) -> None:
        self.rank = trainer.global_rank
        self.world_size = trainer.world_size
        self._trainer = trainer

    def broadcast_from_first(self, make: Callable[[], _Value]) -> _Value:
        """Call a function on rank 0 and give every rank what it returned, or raise on every rank what it raised.

        Args:
            make: Returns, or raises as ``UserError``, something that can be pickled.
        """
        values: list[_Value] = []
        error: UserError | None = None
        if self.rank == 0:
            try:
                values = [make()]
            except UserError as caught:
                error = caught
        values, error = self._trainer.strategy.broadcast((values, error))
        if error is not None:
            raise error
        return values[0]

    def gather_errors(self, error: Exception | None) -> None:
        """Wait until all ranks are ready to train, or know that they are not.

        Args:
            error: What keeps this rank from being ready.

        Raises:
            UserError: On a rank that is ready where another is not, naming that one and its error.
        """
        errors: list[str | None] = [None] * self.world_size
        dist.all_gather_object(errors, None if error is None else str(error))
        for rank, message in enumerate(errors):
            if message is not None and error is None:
                raise UserError(f"Rank {rank} of {self.world_size}: {message}")

    def abort(self) -> None:
        """End the other ranks, which would wait for this one in a collective.

        A rank that was launched by another ends itself, at once: its launcher (Lightning, torchrun, srun) then ends
        the rest. Rank 0 ends the processes that it launched and returns.
        """
        sys.stdout.flush()
        sys.stderr.flush()
        launcher = self._trainer.strategy.launcher
        for process in getattr(launcher, "procs", []):
            process.kill()
        if self.rank > 0:
            os._exit(1)


def joint_arguments(
    options: EvaluationOptions, trainer: L.Trainer, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Say where students that all ranks train together run.

    Args:
        options: What was asked for.
        trainer: The trainer of the run.
        settings: The keys of the configuration under ``trainer``.

    Returns:
        ``devices``, ``num_nodes``, ``strategy`` and ``sync_batchnorm``, for
        :func:`benchmarks.students.evaluation.evaluate_student`.

    Raises:
        UserError: If the strategy cannot train students.
    """
    strategy = settings.get("strategy", "auto")
    if not isinstance(strategy, str) or not isinstance(trainer.strategy, DDPStrategy):
        raise UserError(
            "evaluation.ranks is 'ddp', which needs trainer.strategy by its name, e.g. ddp or "
            "ddp_find_unused_parameters_true."
        )
    return {
        "devices": settings.get("devices", "auto"),
        "num_nodes": settings.get("num_nodes") or 1,
        "strategy": strategy,
        "sync_batchnorm": options.sync_batchnorm,
    }


def check_strategy(trainer: L.Trainer) -> None:
    """Refuse strategies whose processes end with the call that starts them.

    Raises:
        UserError: For the spawning and forking variants of DDP.
    """
    method = getattr(trainer.strategy, "_start_method", "popen")
    if trainer.world_size > 1 and method != "popen":
        raise UserError(
            f"trainer.strategy 'ddp_{method}' starts its processes anew for every call, which a run of several stages "
            "cannot use: set it to ddp."
        )
