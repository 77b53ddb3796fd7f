"""Loggers of a student's training: CSV always, Weights & Biases where it is installed and wanted."""

import os
import re
import shutil
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from benchmarks.results.columns import flat
from benchmarks.results.records import Cell, Result
from ddoq.errors import UserError
from ddoq.storage.fingerprints import hash_config
from ddoq.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger, WandbLogger


@dataclass
class WandbOptions:
    """Weights & Biases options.

    Attributes:
        mode: ``offline`` writes below the run's folder and sends nothing (``wandb sync`` sends it later), ``online``
            sends, ``disabled`` does without. Without the package installed ``offline`` does without, too.
        project: Project of the runs.
        entity: User or team; the account's own where omitted.
        group: Groups runs that belong together; a suite gives its own name where none is given.
        tags: Labels to filter by.
        artifacts: Whether distilled sets and their configurations are logged as artifacts, once each. Their files
            are not copied: they must stay where they are until they were sent.
    """

    mode: Literal["offline", "online", "disabled"] = "offline"
    project: str = "ddoq-bench"
    entity: str | None = None
    group: str | None = None
    tags: list[str] = field(default_factory=list)
    artifacts: bool = True


def run_name(cell: Cell) -> str:
    """Name the run of a cell.

    Example:
        >>> run_name(Cell("digits", "ddoq", 10, "resnet18", 0, 0, "unified"))
        'ddoq-ipc10-resnet18-s0'
    """
    return f"{cell.method}-ipc{cell.ipc}-{cell.student}-s{cell.seed}"


def student_loggers(
    options: WandbOptions, run_folder: Path, cell: Cell, config: Mapping[str, Any]
) -> "list[Logger]":
    """Make the loggers of one student; all of their files lie in a folder of its own.

    Args:
        options: Whether and how to use W&B.
        run_folder: Holds a folder per student.
        cell: Names the run.
        config: Everything that decides the numbers; logged with the run.

    Returns:
        A CSVLogger, and a WandbLogger unless it is disabled or not installed.

    Raises:
        UserError: If W&B shall send, but is not installed.
    """
    from lightning.pytorch.loggers import CSVLogger

    name = run_name(cell)
    folder = student_folder(run_folder, name, config)
    shutil.rmtree(
        folder / RunFolder.CURVES, ignore_errors=True
    )  # of an earlier run of the same cell
    folder.mkdir(parents=True, exist_ok=True)
    loggers: list[Logger] = [CSVLogger(folder, name="", version=RunFolder.CURVES)]
    if enabled(options):
        loggers.append(_wandb_logger(options, folder, name, {"cell": asdict(cell), **config}))
    return loggers


def student_folder(run_folder: Path, name: str, config: Mapping[str, Any]) -> Path:
    """Return the folder of the logs of a student.

    Args:
        run_folder: Holds a folder per student.
        name: Of its run.
        config: Everything that decides its numbers: two students may share a name, since settings of the method are
            no part of it.
    """
    slug = re.sub(r"[^\w.-]+", "_", name)[:100]
    return run_folder / f"{slug}-{hash_config(config)}"


def enabled(options: WandbOptions) -> bool:
    """Say whether runs are to be logged, and can be.

    Args:
        options: Whether and how to use W&B.

    Raises:
        UserError: If W&B shall send, but is not installed.
    """
    if options.mode == "disabled":
        return False
    try:
        import wandb  # noqa: F401
    except ImportError:
        if options.mode == "online":
            raise UserError(
                "wandb.mode is 'online', but wandb is not installed: run `pip install wandb` or set "
                "wandb.mode to 'disabled'."
            ) from None
        return False
    return True


def _wandb_logger(
    options: WandbOptions, folder: Path, name: str, config: Mapping[str, Any]
) -> "Logger":
    from lightning.pytorch.loggers import WandbLogger
    from lightning_utilities.core.rank_zero import rank_zero_only

    if getattr(rank_zero_only, "rank", 0) != 0:
        return WandbLogger(save_dir=folder)  # says nothing on other ranks
    # WandbLogger would start the run itself, but then warns at every student of an argument that it passes, and
    # its `offline` sets WANDB_MODE for all that follows in this process.
    with files_in(folder.parent):
        run = start_run(options, folder, name, "student", config)
    run.define_metric("trainer/global_step")
    run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    return WandbLogger(save_dir=folder, project=options.project, name=name, experiment=run)


def start_run(
    options: WandbOptions, folder: Path, name: str, job_type: str, config: Mapping[str, Any]
) -> Any:
    """Start a W&B run; one that is still open in this process is ended first.

    Args:
        options: How to use W&B.
        folder: Holds the run's files, in a folder ``wandb``.
        name: What the run is called.
        job_type: ``student``, ``distill`` or ``leaderboard``.
        config: Logged with the run.

    Returns:
        The run, a ``wandb.Run``.
    """
    import wandb

    if wandb.run is not None:
        wandb.finish()  # `init` would return this run, and two students would land in one
    folder.mkdir(parents=True, exist_ok=True)  # wandb writes to /tmp where its folder is missing
    return wandb.init(
        dir=folder,
        name=name,
        mode=options.mode,
        project=options.project,
        entity=options.entity,
        group=options.group,
        tags=options.tags or None,
        job_type=job_type,
        config=dict(config),
        settings=wandb.Settings(silent=True, console="off"),
    )


@contextmanager
def files_in(folder: Path) -> Iterator[None]:
    """Keep what W&B writes beside its runs out of the home folder, unless the user chose a place.

    Args:
        folder: Gets the folders ``wandb-cache`` and ``wandb-data``; the latter holds what artifacts need until they
            were sent.
    """
    places = {"WANDB_CACHE_DIR": "wandb-cache", "WANDB_DATA_DIR": "wandb-data"}
    ours = {
        key: str(folder.resolve() / name) for key, name in places.items() if key not in os.environ
    }
    os.environ.update(ours)
    try:
        yield
    finally:
        for key in ours:
            del os.environ[key]


def finish(
    loggers: "Iterable[Logger]", result: Result | None = None, sheet: Path | None = None
) -> None:
    """Log the outcome of a student and end its runs, so that the next student starts one of its own.

    Trouble with W&B is a warning: the result itself is in its file.

    Args:
        loggers: What :func:`student_loggers` made.
        result: The outcome; None marks the run as failed.
        sheet: A picture of the distilled set, if there is one.
    """
    from lightning.pytorch.loggers import WandbLogger

    for logger in loggers:
        if not isinstance(logger, WandbLogger):
            logger.finalize("failed" if result is None else "success")
            continue
        try:
            _finish_wandb(logger, result, sheet)
        except Exception as error:  # noqa: BLE001 - whatever it is, the result is on disk
            warnings.warn(f"W&B could not end the run: {error}", stacklevel=2)


def _finish_wandb(logger: "WandbLogger", result: Result | None, sheet: Path | None) -> None:
    import wandb

    run = logger.experiment
    try:
        if sheet is not None and sheet.is_file():
            run.log({"distilled_images": wandb.Image(str(sheet))})
        if result is not None:
            known = {key: value for key, value in flat(result).items() if value is not None}
            run.summary.update(known)
    finally:
        run.finish(exit_code=0 if result is not None else 1)
