"""What a run refuses: before hours of work what could not succeed, after them what did not."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import lightning as L
from lightning.pytorch.utilities.seed import isolate_rng

from benchmarks.results.files import Result, read_failures
from benchmarks.run.ranks import EvaluationOptions, check_strategy
from benchmarks.students.batch_norm import synchronize_batch_norm
from benchmarks.students.student import Student
from ddoq.console import say
from ddoq.data import ImageDataModule, LabelledData
from ddoq.distillation.distilled_set import DistilledSet
from ddoq.errors import UserError
from ddoq.seeding import check_seeds
from ddoq.storage.run_folder import RunFolder
from ddoq.teachers import Teacher, label_order_check, teacher_accuracy


def check_names(students: Sequence[Student], seeds: Sequence[int]) -> None:
    """Refuse students without whom, or whose names, no row could be.

    Args:
        students: Who learns.
        seeds: Once each.

    Raises:
        UserError: If there are none, if two share a name or differ in it alone, or for seeds that
            :func:`ddoq.seeding.check_seeds` refuses.
    """
    if not students:
        raise UserError(
            "No student is configured: give the key `students`, e.g. [{arch: resnet18}]."
        )
    check_seeds("`seeds`", seeds)
    labels = [student.label for student in students]
    if len(set(labels)) < len(labels):
        raise UserError(
            f"Two students share a name: {', '.join(labels)}. Give them different `name`s."
        )
    check_networks(students)


def check_students(
    students: Sequence[Student],
    seeds: Sequence[int],
    data: ImageDataModule,
    trainer: L.Trainer,
    options: EvaluationOptions,
) -> None:
    """Refuse students that could not be trained.

    Args:
        students: Who learns.
        seeds: Once each.
        data: The dataset, set up.
        trainer: The trainer of the run.
        options: How its ranks train students.

    Raises:
        UserError: If there are none, if two share a name, for seeds that :func:`ddoq.seeding.check_seeds` refuses, if one cannot be built, or for a strategy that cannot train them.
    """
    check_names(students, seeds)
    device = trainer.strategy.root_device
    with isolate_rng():  # wrong names and arguments show up here
        for student in students:
            network = student.build(data)
            if options.joint(trainer) and options.sync_batchnorm:
                synchronize_batch_norm(network, device, student.label)
    check_strategy(trainer)


def check_networks(students: Sequence[Student]) -> None:
    """Refuse students that differ in their names alone: both would be one training.

    Raises:
        UserError: Naming both.
    """
    for number, student in enumerate(students):
        for other in students[:number]:
            if replace(other, name=None) == replace(student, name=None):
                raise UserError(
                    f"The students {other.label} and {student.label} differ in their names alone, and would be one "
                    "training: leave one out."
                )


def check_classes(distilled: DistilledSet, folder: Path, data: LabelledData) -> None:
    """Refuse a set of other classes.

    Args:
        distilled: A given set.
        folder: Where it is stored.
        data: The dataset, set up.

    Raises:
        UserError: If classes differ, or their order.
    """
    keys, names = distilled.metadata.get("class_keys"), data.classes.names
    if distilled.class_names != names or (keys and keys != data.classes.keys):
        raise UserError(
            f"{folder} was made for other classes ({', '.join(distilled.class_names[:4])}, ...) "
            f"than {data.name} has ({', '.join(names[:4])}, ...), or for another order of them."
        )


def check_labels(teacher: Teacher, distilled: DistilledSet) -> dict[str, float]:
    """Compare the labels of a set with what a teacher sees in its images.

    Args:
        teacher: On the device that shall do it.
        distilled: The set.

    Returns:
        ``accuracy_real``, of the teacher on real test images, and ``accuracy_distilled``, where images have classes.

    Raises:
        UserError: If the labels cannot be those of the images.
    """
    real = teacher.accuracy
    decoded = distilled.decode()
    labels = decoded.classes()
    if labels is None:  # nobody can say what the teacher ought to see
        return {"accuracy_real": real}
    accuracy = teacher_accuracy(teacher, decoded.pixels(), labels)
    say(
        f"teacher {teacher.arch}: {real:.2%} on real test images, {accuracy:.2%} on distilled images"
    )
    label_order_check(real, accuracy, teacher.num_classes, len(labels))
    return {"accuracy_real": real, "accuracy_distilled": accuracy}


def check_failures(run: RunFolder, cells: set[str], results: list[Result], started: str) -> None:
    """End with an error if students failed, on any rank.

    Args:
        run: Where failures are kept.
        cells: Configuration hashes of all students.
        results: Of those that have one.
        started: When the run began to train them; failures of earlier runs do not count.

    Raises:
        UserError: If a cell has no result, or has failed in this run.
    """
    missing = cells - {result.config_hash for result in results}
    failures, _ = read_failures(run.failures, results)
    recent = {failure.config_hash for failure in failures if failure.created >= started}
    failed = missing | (cells & recent)
    if failed:
        kept = len(failed) - len(missing)
        older = f" ({kept} of them keep the result of an earlier run)" if kept else ""
        raise UserError(
            f"{len(failed)} of {len(cells)} students failed{older}; see {run.failures}."
        )
