"""What a configuration will take before anything runs: stages with passes, operations, files and memory."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from benchmarks.students.evaluation import evaluation_interval
from benchmarks.students.recipes import Recipe
from benchmarks.students.student import Student
from benchmarks.transfer.protocol import TransferProtocol
from ddoq.costs.flops import filled, on_meta
from ddoq.costs.memory import weight_bytes
from ddoq.costs.prior_networks import PriorNetworks
from ddoq.costs.stages import forward_stage, training_stage
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
        transfer: How students are evaluated instead, where the sets of the method have no classes; None where they have.
    """

    sizes: Sizes
    distiller: Distiller
    prior_source: PriorSource | None
    teacher_source: TeacherSource | None
    students: list[Student]
    seeds: int
    recipe: Recipe
    device: torch.device | None = None
    transfer: TransferProtocol | None = None


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
    labels = job.transfer is None and job.recipe.needs_teacher
    if job.teacher_source is not None and (labels or distiller.needs_teacher):
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
    evaluation = _evaluation(job, teacher) if job.transfer is None else _transfer(job, job.transfer)
    return [*stages, *distillation, *evaluation]


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


def _transfer(job: Job, protocol: TransferProtocol) -> list[Stage]:
    """List pre-training on the set and its control, and probe and fine-tuning with these and without, a target each."""
    sizes = job.sizes
    images = sizes.num_classes * job.distiller.ipc
    targets = len(protocol.targets) + (sizes.num_classes > 1)
    stages = []
    for student in job.students:
        network = on_meta(student.build(sizes))
        if job.device is not None:
            network = filled(network, job.device)
        batch = min(protocol.pretrain_batch_size, images)
        passes = job.seeds * 2 * protocol.pretrain_epochs * images
        note = f"{protocol.pretrain_epochs:,} epochs of the set and of its control"
        stages.append(
            training_stage(
                f"pre-train {student.label}",
                student.arch,
                network,
                sizes,
                passes,
                batch,
                moments=1,
                note=note,
            )
        )
        each = job.seeds * 3 * targets
        note = f"{targets} targets, of the size of this dataset; from 3 starts"
        looked = each * (sizes.train_images + 2 * sizes.test_images)
        stages.append(
            forward_stage(
                f"probe and test {student.label}", student.arch, network, sizes, looked, note=note
            )
        )
        batch = min(protocol.batch_size, sizes.train_images)
        passes = each * protocol.iterations * batch
        stages.append(
            training_stage(
                f"fine-tune {student.label}",
                student.arch,
                network,
                sizes,
                passes,
                batch,
                moments=1,
                note=note,
            )
        )
    return stages


def total_flops(stages: Sequence[Stage]) -> int | None:
    """Add up operations; None where any is unknown."""
    counts = [stage.flops for stage in stages if stage.flops is not None]
    return sum(counts) if len(counts) == len(stages) else None
