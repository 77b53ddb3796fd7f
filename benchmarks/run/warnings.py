"""What a row must say of itself, though it is valid: numbers that mean little, and why."""

import torch
from lightning.pytorch.utilities.seed import isolate_rng

from benchmarks.students.recipe import Recipe
from benchmarks.students.student import Student
from ddoq.chance import chance_bound
from ddoq.data import ImageDataModule
from ddoq.decoding.likeness import likeness_warnings
from ddoq.distillation.distilled_set import DistilledSet
from ddoq.networks import build_network
from ddoq.networks.layers import has_norm
from ddoq.teachers import Teacher


def guessing_rate(data: ImageDataModule) -> float:
    """Return the accuracy on the test set of who always answers its most frequent class."""
    counts = torch.bincount(data.test.labels, minlength=data.num_classes)
    return float(counts.max()) / len(data.test)


def student_warnings(top1: float, data: ImageDataModule) -> list[str]:
    """Say whether guessing explains the accuracy of a student.

    Args:
        top1: After its last epoch, in [0, 1].
        data: The dataset, set up.
    """
    rate, n = guessing_rate(data), len(data.test)
    bound = chance_bound(n, rate)
    if top1 > bound:
        return []
    return [
        f"the student is at chance: guessing explains up to {bound:.1%} of {n} test images, it has {top1:.1%}"
    ]


def network_warnings(
    student: Student, distilled: DistilledSet, recipe: Recipe, data: ImageDataModule
) -> list[str]:
    """Say whether a student has norm layers where the authors of a set and of its recipe have none.

    Args:
        student: Who was trained.
        distilled: The set; its record says by ``students`` which network its authors train.
        recipe: How it was trained; others than the set's own promise nothing.
        data: The dataset, set up.
    """
    authors, own = distilled.metadata.get("students"), distilled.form.recipe
    if not isinstance(authors, str) or own is None or own.name != recipe.name:
        return []
    with isolate_rng():
        theirs = build_network(authors, data.num_classes, data.image_size)
        if has_norm(theirs) or not has_norm(student.build(data)):
            return []
    method = distilled.metadata.get("method", "the set")
    return [
        f"the student has norm layers, unlike what recipe {recipe.name} is made for: the authors of {method} train {authors}"
    ]


def teacher_warnings(
    teacher: Teacher, distilled_accuracy: float | None, data: ImageDataModule
) -> list[str]:
    """Say whether the labels of a teacher can be worth anything.

    Args:
        teacher: With what was seen of it when it was obtained.
        distilled_accuracy: Against the labels of the distilled set, in [0, 1]; None where nobody knows.
        data: The dataset, set up.
    """
    texts = list(teacher.warnings)
    rate, n = guessing_rate(data), len(data.test)
    bound = chance_bound(n, rate)
    if teacher.accuracy <= bound:
        texts.append(
            f"the teacher {teacher.arch} is at chance: guessing explains up to {bound:.1%} of {n} test images, it has "
            f"{teacher.accuracy:.1%}"
        )
    chance = 1 / data.num_classes
    # Accuracies are float32.
    if distilled_accuracy is not None and distilled_accuracy <= chance + 1e-6:
        texts.append(
            f"the teacher {teacher.arch} recognises {distilled_accuracy:.1%} of the distilled images, which is not above "
            f"chance ({chance:.1%})"
        )
    return texts


def set_warnings(distilled: DistilledSet) -> list[str]:
    """Say whether the images of a set are (nearly) equal; see :func:`likeness_warnings`.

    Args:
        distilled: The set.
    """
    decoded = distilled.decode()
    return likeness_warnings(decoded.pixels().cpu(), decoded.classes(), distilled.class_names)
