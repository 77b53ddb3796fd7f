"""Evaluation: train one student on a distilled set, test it on the real test set, report exact accuracies."""

import logging
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.seed import isolate_rng
from torch import nn

from benchmarks.results.outcome import Outcome
from benchmarks.students.batch_norm import has_batch_norm, synchronize_batch_norm
from benchmarks.students.checkpoints import StudentCheckpoints
from benchmarks.students.module import StudentModule
from benchmarks.students.plan import Plan
from benchmarks.students.stored_labels import StoredLabels
from benchmarks.students.student import Student
from benchmarks.students.training_set import TrainingSet
from ddoq.console import say
from ddoq.costs.flops import forward_flops, training_flops
from ddoq.data.base import ImageDataModule
from ddoq.errors import UserError
from ddoq.finite import DivergedError
from ddoq.optimisation.callbacks import CheckpointFile, ProgressLines, StopDiverged
from ddoq.seeding import derive_seed
from ddoq.storage.checkpoints import Checkpoint

if TYPE_CHECKING:
    from ddoq.teachers import Teacher

# Evaluations in the course of a training where the caller names no interval.
_EVALUATIONS = 10


def evaluation_interval(epochs: int) -> int:
    """Return the epochs between evaluations, where the caller names no interval.

    Example:
        >>> evaluation_interval(400), evaluation_interval(3)
        (40, 1)
    """
    return max(1, epochs // _EVALUATIONS)


@dataclass(frozen=True)
class Run:
    """Where a student is trained, and who watches.

    Attributes:
        trainer: Arguments for ``lightning.Trainer`` that say where to run. On several ranks ``sync_batchnorm`` takes
            batch statistics over all of them.
        loggers: Where curves go.
        eval_every: Epochs between evaluations; a tenth of all where omitted. The last epoch is always tested.
        labels_folder: Root of stored labels; needed where the recipe stores them.
        before_fit: Called when everything is built and checked; may raise, where another rank is not ready.
        checkpoint: Where a training that was killed finds its state again; None keeps nothing, and so do several ranks.
    """

    trainer: Mapping[str, Any]
    loggers: Sequence[Logger] = ()
    eval_every: int | None = None
    labels_folder: Path | None = None
    before_fit: Callable[[], None] | None = None
    checkpoint: Checkpoint | None = None


def evaluate_student(
    training: TrainingSet,
    data: ImageDataModule,
    teacher: "Teacher | None",
    student: Student,
    *,
    seed: int,
    run: Run,
) -> Outcome:
    """Train a student on a distilled set and test it on the real test set.

    Initial weights, order of images, augmentation and dropout depend on ``seed`` alone; the caller's random state
    is left as it was. How often is tested changes no result. Where labels are stored, augmentation depends on the
    recipe's ``label_seed`` instead, and labels that are missing are made before the clock starts.

    Args:
        training: What to train on, and by which recipe.
        data: The dataset, set up; its test split counts.
        teacher: Labels the images; may be None where the recipe uses labels of the set.
        student: Which network.
        seed: The seed of this student.
        run: Where to train.

    Returns:
        Accuracies, curve and costs.

    Raises:
        UserError: If set, dataset, teacher and recipe do not fit one another.
        DivergedError: If loss, weights or logits are not finite; all ranks raise it together.
    """
    interval = run.eval_every
    if interval is None:
        interval = evaluation_interval(training.plan.epochs)
    _check(training, data, teacher, interval)
    stored = _stored_labels(training, teacher, run.labels_folder)
    with isolate_rng(), _quiet():
        module = _module(training, data, teacher, student, seed, stored)
        name = f"{student.label}, seed {seed}"
        guard = StopDiverged("The student", module.mend)
        trainer = L.Trainer(**_trainer_arguments(run, training.plan, interval, name, guard))
        _check_share(len(training), training.plan.batch_size, trainer.world_size)
        synchronised = _synchronise(
            module, trainer, bool(run.trainer.get("sync_batchnorm")), student
        )
        if stored is not None:
            stored.make(trainer.strategy.root_device)
        if run.before_fit is not None:
            run.before_fit()
        seconds = _train(module, trainer, interval, guard, run.checkpoint)
        if synchronised:  # operations are counted off the GPU, where these layers refuse to work
            module.network = _network(training, data, student)
    return _outcome(module, training, data, teacher, trainer, seconds, synchronised, stored)


def _stored_labels(
    training: TrainingSet, teacher: "Teacher | None", folder: Path | None
) -> StoredLabels | None:
    if training.recipe.labels != "stored" or teacher is None:
        return None
    if folder is None:
        raise UserError(f"Recipe {training.recipe.label!r} stores labels: give labels_folder.")
    return StoredLabels(folder, training, teacher)


def _network(training: TrainingSet, data: ImageDataModule, student: Student) -> nn.Module:
    """Build the untrained network; a set's transform takes the place of the dataset's normalisation."""
    if training.decoded.transform is None:
        return student.build(data)
    return student.build(data, normalize=False)


def _module(
    training: TrainingSet,
    data: ImageDataModule,
    teacher: "Teacher | None",
    student: Student,
    seed: int,
    stored: StoredLabels | None,
) -> StudentModule:
    lr = training.rates(student.arch) if student.lr is None else student.lr
    torch.manual_seed(derive_seed(seed, "init"))
    return StudentModule(
        _network(training, data, student),
        training,
        num_classes=data.num_classes,
        lr=lr,
        seed=seed,
        teacher=teacher if training.recipe.labels == "online" else None,
        stored=stored,
        make_test_loader=data.test_dataloader,
    )


def _synchronise(
    module: StudentModule, trainer: L.Trainer, wanted: bool, student: Student
) -> bool | None:
    """Take batch statistics over all ranks where that is wanted; None where there are none, or one rank only."""
    if trainer.world_size == 1 or not has_batch_norm(module.network):
        return None
    if wanted:
        device = trainer.strategy.root_device
        module.network = synchronize_batch_norm(module.network, device, student.label)
    return wanted


def _train(
    module: StudentModule,
    trainer: L.Trainer,
    interval: int,
    guard: StopDiverged,
    checkpoint: Checkpoint | None,
) -> float:
    """Train and test; return the seconds that it took, those before a kill included."""
    started, path = time.perf_counter(), None
    file = trainer.strategy.checkpoint_io
    if checkpoint is not None and isinstance(file, CheckpointFile) and file.exists():
        path = checkpoint.path
        say(f"going on with a training that was stopped after {checkpoint.elapsed:.0f} s")
    try:
        trainer.fit(module, ckpt_path=path)
        module.steps = trainer.global_step
        guard.check_weights(trainer, module)
        if module.plan.epochs % interval:
            trainer.validate(module, verbose=False)
    except DivergedError:
        if checkpoint is not None:
            checkpoint.clear()  # nobody shall go on from there
        raise
    seconds = time.perf_counter() - started
    if checkpoint is None:
        return seconds
    checkpoint.clear()
    return seconds + checkpoint.earlier


def _outcome(
    module: StudentModule,
    training: TrainingSet,
    data: ImageDataModule,
    teacher: "Teacher | None",
    trainer: L.Trainer,
    seconds: float,
    synchronised: bool | None,
    stored: StoredLabels | None,
) -> Outcome:
    plan, recipe = module.plan, module.recipe
    last = module.curve[-1]
    best = max(module.curve, key=lambda entry: entry["top1"])
    return Outcome(
        top1_last=last["top1"],
        top1_best=best["top1"],
        top5_last=last["top5"],
        top5_best=best["top5"],
        best_epoch=best["epoch"],
        curve=module.curve,
        seconds=seconds,
        params=sum(parameter.numel() for parameter in module.network.parameters()),
        steps=module.steps,
        effective_batch=plan.batch_size,
        world_size=trainer.world_size,
        global_batch=plan.batch_size,
        epochs=plan.epochs,
        sync_batchnorm=synchronised,
        **_flops(module, teacher, data, training.shown, trainer.world_size),
        label_bytes=0 if stored is None else stored.total_bytes,
        teacher_bytes=_bytes(teacher) if teacher is not None and recipe.labels == "online" else 0,
    )


def _bytes(module: nn.Module) -> int:
    """Count the bytes of parameters and buffers."""
    return sum(part.nbytes for part in (*module.parameters(), *module.buffers()))


def _flops(
    module: StudentModule, teacher: "Teacher | None", data: ImageDataModule, seen: int, ranks: int
) -> dict[str, int]:
    """Count what a training came to, from the number of images that it saw."""
    shape = (3, data.image_size, data.image_size)
    tested = len(module.curve) * len(data.test)
    labelled = seen if module.recipe.labels == "online" else 0
    if module.recipe.teacher_mode == "train":  # every rank labels the whole batch
        labelled *= ranks
    return {
        "flops": seen * training_flops(module.network, shape),
        "test_flops": tested * forward_flops(module.network, shape),
        "teacher_flops": labelled * forward_flops(teacher, shape) if teacher and labelled else 0,
    }


def _check(
    training: TrainingSet, data: ImageDataModule, teacher: "Teacher | None", interval: int
) -> None:
    """Refuse parts that do not fit one another, before anything is built."""
    if interval < 1:
        raise UserError(f"eval_every must be at least 1, not {interval}.")
    names = data.classes.names
    if len(training.class_names) != len(names):
        raise UserError(
            f"The distilled set has {len(training.class_names)} classes, {data.name} has {len(names)}: "
            "evaluate it on the dataset it was made from."
        )
    if training.class_names != names and sorted(training.class_names) == sorted(names):
        raise UserError(
            f"The distilled set has the classes of {data.name} in another order: its labels would be read wrongly."
        )
    height, width = training.decoded.size
    if (height, width) != (data.image_size, data.image_size):
        raise UserError(
            f"The distilled images have {height} x {width} pixels, but {data.name} has image_size "
            f"{data.image_size}: make the two equal."
        )
    training.check()
    recipe = training.recipe
    if recipe.needs_teacher and teacher is None:
        raise UserError(
            f"Recipe {recipe.label!r} needs a teacher: give the key `teacher` in the configuration, "
            "or use the recipe 'hard'."
        )
    if recipe.needs_teacher and teacher is not None and teacher.num_classes != len(names):
        raise UserError(
            f"The teacher knows {teacher.num_classes} classes, {data.name} has {len(names)}."
        )
    if recipe.teacher_mode == "train" and teacher is not None and not has_batch_norm(teacher):
        raise UserError(
            f"Recipe {recipe.label!r} has teacher_mode 'train', but the teacher {teacher.arch} has no batch normalisation "
            "whose statistics could be the batch's: set teacher_mode to eval, or take another teacher."
        )


def _check_share(images: int, batch: int, world_size: int) -> None:
    """Refuse batches of which some rank would get less than two images."""
    if world_size > 1 and min(images, batch) < 2 * world_size:
        what = f"{images} distilled images" if images <= batch else f"Batches of {batch} images"
        raise UserError(
            f"{what} cannot be shared by {world_size} ranks, two images each at least: use fewer devices, or set "
            "evaluation.ranks to independent."
        )


def _trainer_arguments(
    run: Run, plan: Plan, interval: int, name: str, guard: StopDiverged
) -> dict[str, Any]:
    """Add to where to run what the protocol and its speed ask for."""
    where = {key: value for key, value in run.trainer.items() if key != "sync_batchnorm"}
    callbacks: list[Callback] = [*(where.get("callbacks") or ()), ProgressLines(name), guard]
    plugins = [*(where.get("plugins") or ())]
    if run.checkpoint is not None:
        callbacks.append(StudentCheckpoints(run.checkpoint))
        plugins.append(CheckpointFile(run.checkpoint))
    return {
        **where,
        "callbacks": callbacks,
        "plugins": plugins or None,
        "max_epochs": plan.epochs,
        "logger": list(run.loggers) or False,
        "enable_checkpointing": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,  # positions and test images are shared exactly as they are
        "num_sanity_val_steps": 0,
        "check_val_every_n_epoch": interval,
        "reload_dataloaders_every_n_epochs": int(plan.stages > 1),  # images join
        "log_every_n_steps": 1,  # nothing is logged by step; a higher number would only draw a warning
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what Lightning says about every one of hundreds of students, and nothing else."""
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    level = logger.level
    logger.setLevel(logging.WARNING)  # devices found, "`max_epochs` reached"
    try:
        with warnings.catch_warnings():
            # Test images are decoded once and then kept: workers would cost more than they save.
            warnings.filterwarnings("ignore", ".*does not have many workers.*")
            # Lightning 2.6 calls a helper that torch has renamed.
            warnings.filterwarnings("ignore", ".*LeafSpec.* is deprecated.*")
            # The loss is averaged over ranks before it is logged.
            warnings.filterwarnings("ignore", ".*sync_dist=True.*")
            yield
    finally:
        logger.setLevel(level)
