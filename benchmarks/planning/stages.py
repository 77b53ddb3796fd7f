"""What a configuration will take before anything runs: stages with passes, operations, files and memory."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from benchmarks.students.evaluation import evaluation_interval
from benchmarks.students.recipes import Recipe
from benchmarks.students.student import Student
from ddoq.costs.flops import filled
from ddoq.costs.memory import weight_bytes
from ddoq.costs.prior_networks import PriorNetworks
from ddoq.costs.stages import forward_stage
from ddoq.costs.workload import Parts, Sizes, Stage, image_bytes
from ddoq.distillation.distiller import Distiller
from ddoq.labels.compact import label_bytes
from ddoq.priors import PriorSource
from ddoq.teachers import TeacherSource


@dataclass(frozen=True)
class Job:
    """What is planned: a configuration's parts and the sizes of its dataset.

    Attributes:
        sizes: Of the dataset.
        distiller: The method.
        prior_source: Where its prior comes from.
        teacher_source: Where the teacher comes from.
        students: Who learns.
        seeds: How many times each.
        recipe: How they learn.
        device: Where networks are put that shall be run; None keeps them without values.
    """

    sizes: Sizes
    distiller: Distiller
    prior_source: PriorSource | None
    teacher_source: TeacherSource | None
    students: list[Student]
    seeds: int
    recipe: Recipe
    device: torch.device | None = None


def plan(job: Job) -> list[Stage]:
    """List the stages of a whole run, in their order.

    Args:
        job: What is planned.

    Returns:
        The stages; what is unknown is in them as unknown.
    """
    sizes, distiller = job.sizes, job.distiller
    prior: PriorNetworks | None = None
    teacher: nn.Module | None = None
    stages: list[Stage] = []
    if job.prior_source is not None and distiller.needs_prior:
        prior, training = job.prior_source.workload(sizes)
        stages += training
    if job.teacher_source is not None and (job.recipe.needs_teacher or distiller.needs_teacher):
        teacher, training = job.teacher_source.workload(sizes)
        stages += training
    if job.device is not None:
        prior = None if prior is None else filled(prior, job.device)
        teacher = None if teacher is None else filled(teacher, job.device)
    for ingredient in distiller.ingredients.values():
        stages += ingredient.workload(sizes)
    distillation = distiller.workload(sizes, Parts(prior, teacher))
    if distillation is None:
        note = f"{distiller.method} does not say what it takes, or its networks are unknown"
        distillation = [Stage.unknown(f"distil by {distiller.method}", note)]
    return [*stages, *distillation, *_evaluation(job, teacher)]


def _evaluation(job: Job, teacher: nn.Module | None) -> list[Stage]:
    """List labels, training and tests of all students."""
    sizes, recipe, ipc = job.sizes, job.recipe, job.distiller.ipc
    images = sizes.num_classes * ipc
    todo = recipe.plan(ipc, sizes.num_classes, images, sizes.image_size)
    seen = todo.epochs * images
    online = recipe.labels == "online"

    def labelling(name: str, count: int, files: dict[str, int]) -> Stage:
        if teacher is None:
            return Stage.unknown(name, "the teacher is unknown", files)
        return forward_stage(name, "teacher", teacher, sizes, count, todo.batch_size, files=files)

    stages = []
    if recipe.labels == "stored":
        files = {"labels": label_bytes(seen, sizes.num_classes, recipe.label_top_k)}
        stages.append(labelling("store labels", seen, files))
    for student in job.students:
        if online:
            stages.append(labelling(f"label for {student.label}", job.seeds * seen, {}))
        stages += student.workload(
            sizes,
            todo,
            images=images,
            seeds=job.seeds,
            tests=math.ceil(todo.epochs / evaluation_interval(todo.epochs)),
            moments=2 if recipe.optimizer == "adamw" else 1,
            kept=image_bytes(sizes, ipc) + (weight_bytes(teacher) if online else 0),
            device=job.device,
        )
    return stages


def total_flops(stages: Sequence[Stage]) -> int | None:
    """Add up operations; None where any is unknown."""
    counts = [stage.flops for stage in stages if stage.flops is not None]
    return sum(counts) if len(counts) == len(stages) else None
