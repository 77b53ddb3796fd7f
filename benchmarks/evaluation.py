"""Evaluation: train one student on a distilled set, test it on the real test set, report exact accuracies."""

import logging
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.seed import isolate_rng

from benchmarks.recipes import Plan, Recipe
from benchmarks.student_module import StudentModule
from benchmarks.students import Student
from ddoq.data.base import ImageDataModule
from ddoq.distilled_set import DistilledSet
from ddoq.errors import UserError
from ddoq.seeding import derive_seed

if TYPE_CHECKING:
    from ddoq.teachers import Teacher

# Evaluations in the course of a training where the caller names no interval.
_EVALUATIONS = 10


@dataclass
class Outcome:
    """What one training of a student came to.

    Attributes:
        top1_last: Accuracy on the real test set after the last epoch, in [0, 1]: the headline.
        top1_best: The highest accuracy of the curve: chosen on the test set, so for comparison only.
        top5_last: As ``top1_last``, for the true class among the five likeliest (or all, if fewer).
        top5_best: ``top5`` at ``best_epoch``.
        best_epoch: Completed epochs at ``top1_best``; the earliest.
        curve: One entry per evaluation; see :class:`benchmarks.student_module.StudentModule`.
        seconds: Wall-clock time of training and testing.
        params: Parameters of the student.
        steps: Optimiser steps.
        effective_batch: Images per step: the recipe's batch, or the whole set if that is smaller.
        world_size: Number of ranks that trained it.
        global_batch: Images per step over all ranks; equal to ``effective_batch``, since ranks share a batch.
        epochs: Passes over the set: the recipe's number for a set of this size.
    """

    top1_last: float
    top1_best: float
    top5_last: float
    top5_best: float
    best_epoch: int
    curve: list[dict[str, Any]]
    seconds: float
    params: int
    steps: int
    effective_batch: int
    world_size: int
    global_batch: int
    epochs: int


def evaluate_student(
    distilled: DistilledSet,
    data: ImageDataModule,
    teacher: "Teacher | None",
    student: Student,
    recipe: Recipe,
    *,
    seed: int,
    trainer: Mapping[str, Any],
    loggers: Sequence[Logger] = (),
    eval_every: int | None = None,
) -> Outcome:
    """Train a student on a distilled set and test it on the real test set.

    Initial weights, order of images, augmentation and dropout depend on ``seed`` alone; the caller's random state
    is left as it was. How often is tested changes no result.

    Args:
        distilled: What to train on.
        data: The dataset whose test split counts.
        teacher: Labels the images; may be None where the recipe uses hard labels.
        student: Which network.
        recipe: How to train.
        seed: The seed of this student.
        trainer: Arguments for ``lightning.Trainer`` that say where to run.
        loggers: Where curves go.
        eval_every: Epochs between evaluations; a tenth of all where omitted. The last epoch is always tested.

    Returns:
        Accuracies, curve and costs.

    Raises:
        UserError: If set, dataset, teacher and recipe do not fit one another.
    """
    data.setup()
    plan = recipe.plan(distilled.ipc, data.num_classes, len(distilled), data.image_size)
    if eval_every is None:
        eval_every = max(1, plan.epochs // _EVALUATIONS)
    _check(distilled, data, teacher, recipe, eval_every)
    lr = recipe.learning_rate(student.arch) if student.lr is None else student.lr
    with isolate_rng(), _quiet():
        torch.manual_seed(derive_seed(seed, "init"))
        module = StudentModule(
            student.build(data),
            distilled,
            recipe,
            num_classes=data.num_classes,
            lr=lr,
            seed=seed,
            teacher=teacher if recipe.labels == "online" else None,
            make_test_loader=data.test_dataloader,
        )
        runner = L.Trainer(**_trainer_arguments(trainer, plan, loggers, eval_every))
        if len(distilled) < 2 * runner.world_size and runner.world_size > 1:
            raise UserError(
                f"{len(distilled)} distilled images cannot be shared by {runner.world_size} ranks: "
                "use fewer devices."
            )
        started = time.perf_counter()
        runner.fit(module)
        steps = runner.global_step
        if plan.epochs % eval_every:
            runner.validate(module, verbose=False)
        seconds = time.perf_counter() - started
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
        steps=steps,
        effective_batch=plan.batch_size,
        world_size=runner.world_size,
        global_batch=plan.batch_size,
        epochs=plan.epochs,
    )


def _check(
    distilled: DistilledSet,
    data: ImageDataModule,
    teacher: "Teacher | None",
    recipe: Recipe,
    eval_every: int,
) -> None:
    """Refuse parts that do not fit one another, before anything is built."""
    if eval_every < 1:
        raise UserError(f"eval_every must be at least 1, not {eval_every}.")
    names = data.classes.names
    if len(distilled.class_names) != len(names):
        raise UserError(
            f"The distilled set has {len(distilled.class_names)} classes, {data.name} has {len(names)}: "
            "evaluate it on the dataset it was made from."
        )
    if distilled.class_names != names and sorted(distilled.class_names) == sorted(names):
        raise UserError(
            f"The distilled set has the classes of {data.name} in another order: its labels would be read wrongly."
        )
    height, width = distilled.images.shape[-2:]
    if (height, width) != (data.image_size, data.image_size):
        raise UserError(
            f"The distilled images have {height} x {width} pixels, but {data.name} has image_size "
            f"{data.image_size}: make the two equal."
        )
    if recipe.labels == "online" and teacher is None:
        raise UserError(
            f"Recipe {recipe.label!r} needs a teacher: give the key `teacher` in the configuration, "
            "or use the recipe 'hard'."
        )
    if recipe.labels == "online" and teacher is not None and teacher.num_classes != len(names):
        raise UserError(
            f"The teacher knows {teacher.num_classes} classes, {data.name} has {len(names)}."
        )


def _trainer_arguments(
    trainer: Mapping[str, Any], plan: Plan, loggers: Sequence[Logger], eval_every: int
) -> dict[str, Any]:
    """Add to where to run what the protocol and its speed ask for."""
    return {
        **trainer,
        "max_epochs": plan.epochs,
        "logger": list(loggers) or False,
        "enable_checkpointing": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,  # positions and test images are shared exactly as they are
        "num_sanity_val_steps": 0,
        "check_val_every_n_epoch": eval_every,
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
            yield
    finally:
        logger.setLevel(level)
