"""What a configuration will take before anything runs: stages with passes, operations, files and memory."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import singledispatch
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from benchmarks.students.evaluation import evaluation_interval
from benchmarks.students.recipes import Recipe
from benchmarks.students.student import Student
from ddoq.costs.flops import count_flops, filled, on_meta, training_flops
from ddoq.costs.memory import peak_bytes, weight_bytes
from ddoq.costs.prior_networks import PriorNetworks
from ddoq.costs.released_priors import RELEASED, folder_networks, released_networks
from ddoq.costs.workload import Parts, Sizes, Stage, device_of, forward_stage, image_bytes
from ddoq.data import ImageDataModule
from ddoq.distillation.distiller import Distiller
from ddoq.errors import UserError
from ddoq.labels.compact import label_bytes
from ddoq.networks import build_network
from ddoq.priors import PretrainedPrior, PriorSource, TrainedPrior
from ddoq.priors.loading import make_scheduler, parse_dtype
from ddoq.priors.training.dit import build_dit
from ddoq.priors.training.vae import build_vae
from ddoq.storage.files import read_json
from ddoq.teachers import PretrainedTeacher, TeacherSource, TrainedTeacher
from ddoq.teachers.weights import build_classifier


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
    distiller: Distiller | None
    prior_source: PriorSource | None
    teacher_source: TeacherSource | None
    students: list[Student]
    seeds: int
    recipe: Recipe
    device: torch.device | None = None


@singledispatch
def plan_prior(source: Any, sizes: Sizes) -> tuple[PriorNetworks | None, list[Stage]]:
    """Build a prior's networks without values, and say what obtaining it takes; unknown for other sources.

    Args:
        source: Where the prior comes from.
        sizes: Of the dataset.

    Returns:
        The networks, None where they cannot be had, and the stages of its training.
    """
    return None, [_unknown("prior: obtain", f"{type(source).__name__} does not say what it takes")]


@plan_prior.register
def _(source: TrainedPrior, sizes: Sizes) -> tuple[PriorNetworks | None, list[Stage]]:
    from diffusers import DDIMScheduler

    with torch.device("meta"):
        vae = build_vae(source.vae, sizes.image_size)
        side = sizes.image_size // source.vae.downsampling
        shape = (source.vae.latent_channels, side, side)
        dit = build_dit(source.dit, shape, sizes.num_classes)
    networks = PriorNetworks(vae, dit, DDIMScheduler())

    def train_vae(count: int) -> None:
        images = torch.zeros(count, 3, sizes.image_size, sizes.image_size, device=networks.device)
        vae(images).sample.sum().backward()

    def train_dit(count: int) -> None:
        with torch.enable_grad():
            zeros = torch.zeros(count, dtype=torch.long, device=networks.device)
            latents = torch.zeros(count, *shape, device=networks.device)
            dit(latents, timestep=zeros, class_labels=zeros).sample.sum().backward()

    stages = []
    for what, network, run, config in (
        ("prior: train VAE", vae, train_vae, source.vae),
        ("prior: train DiT", dit, train_dit, source.dit),
    ):
        batch = min(config.batch_size, sizes.train_images)
        passes = config.steps * batch
        weights = weight_bytes(network)
        stages.append(
            Stage(
                what,
                type(network).__name__,
                passes,
                passes * count_flops(lambda run=run: run(2)) // 2,  # type: ignore[misc]
                {"weights": weights},
                3 * weights + peak_bytes(lambda run=run, batch=batch: run(batch)),  # type: ignore[misc]
                batch,
                note="forward and backward",
            )
        )
    networks = networks.on_meta()
    encoding = sizes.train_images * count_flops(lambda: networks.encode(1))
    stages.insert(
        1, Stage("prior: encode", "VAE encoder", sizes.train_images, encoding, note="for the DiT")
    )
    return networks, stages


@plan_prior.register
def _(source: PretrainedPrior, sizes: Sizes) -> tuple[PriorNetworks | None, list[Stage]]:
    folder = Path(source.path).expanduser()
    networks = folder_networks(folder) if folder.is_dir() else None
    if networks is None:
        if source.path not in RELEASED:
            note = f"{source.path} is not here, and its shapes are known of {', '.join(RELEASED)} alone"
            return None, [_unknown("prior: open", note)]
        networks = released_networks(source.path)
    if source.scheduler is not None:
        scheduler = make_scheduler(source.scheduler, networks.scheduler.config)
        networks = replace(networks, scheduler=scheduler)
    return networks.to(parse_dtype(source.dtype)), []


@singledispatch
def plan_teacher(source: Any, sizes: Sizes) -> tuple[nn.Module | None, list[Stage]]:
    """Build a teacher's network without values, and say what obtaining it takes; see :func:`plan_prior`."""
    note = f"{type(source).__name__} does not say what it takes"
    return None, [_unknown("teacher: obtain", note)]


@plan_teacher.register
def _(source: TrainedTeacher, sizes: Sizes) -> tuple[nn.Module | None, list[Stage]]:
    network = build_network(
        source.arch, sizes.num_classes, sizes.image_size, stem=source.stem, **source.kwargs
    )
    network = on_meta(network)
    training = source.training
    batch = min(training.batch_size, sizes.train_images)
    stage = training_stage(
        "teacher: train",
        source.arch,
        network,
        sizes,
        training.epochs
        * (sizes.train_images // batch * batch),  # whole batches, as the training has them
        batch,
        moments=1 if training.optimizer == "sgd" else 2,
        files={"weights": weight_bytes(network)},
    )
    testing = forward_stage("teacher: test", source.arch, network, sizes, sizes.test_images, 256)
    return network, [stage, testing]


@plan_teacher.register
def _(source: PretrainedTeacher, sizes: Sizes) -> tuple[nn.Module | None, list[Stage]]:
    if source.arch is not None:
        named = build_classifier(
            source.arch, sizes.num_classes, sizes.image_size, stem=source.stem, **source.kwargs
        )
        network = on_meta(named)
        name = "teacher: test"  # once, before it is used
        stage = forward_stage(name, source.arch, network, sizes, sizes.test_images, 256)
        return network, [stage]
    folder = Path(str(source.path)).expanduser()
    if not folder.is_dir():
        return None, [_unknown("teacher: open", f"{folder} does not exist")]
    return _read_network(folder), []


def _read_network(folder: Path) -> nn.Module:
    """Build the network that a teacher's record describes, without its weights."""
    record = read_json(folder / "teacher.json")
    try:
        network = build_classifier(
            record["arch"],
            len(record["class_keys"]),
            record["image_size"],
            stem=record["stem"],
            **record["kwargs"],
        )
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{folder / 'teacher.json'} is no record of a teacher ({error}): train the teacher again."
        ) from None
    return on_meta(network)


def training_stage(
    name: str,
    what: str,
    network: nn.Module,
    sizes: Sizes,
    passes: int,
    batch: int,
    *,
    moments: int,
    kept: int = 0,
    files: dict[str, int] | None = None,
    note: str = "forward and backward",
) -> Stage:
    """Describe the training of a classifier.

    Args:
        name: Of the stage.
        what: What the network is called.
        network: From images to logits.
        sizes: Of the dataset.
        passes: Images seen.
        batch: Images a step.
        moments: Tensors that the optimiser keeps for each parameter.
        kept: Further bytes on the device.
        files: Bytes that stay on disk.
        note: What the reader should know.
    """
    shape = (3, sizes.image_size, sizes.image_size)

    def probe(count: int, trained: nn.Module = network) -> None:
        trained.train().zero_grad()
        trained(torch.zeros(count, *shape, device=device_of(trained))).float().sum().backward()

    ghost = on_meta(network)
    memory = (1 + moments) * weight_bytes(network) + kept + peak_bytes(lambda: probe(batch, ghost))
    flops = passes * training_flops(network, shape)
    return Stage(name, what, passes, flops, files or {}, memory, batch, note=note, probe=probe)


def plan(job: Job) -> list[Stage]:
    """List the stages of a whole run, in their order.

    Args:
        job: What is planned.

    Returns:
        The stages; what is unknown is in them as unknown.
    """
    sizes, distiller = job.sizes, job.distiller
    stages: list[Stage] = []
    prior, teacher = None, None
    if job.prior_source is not None and distiller is not None and distiller.needs_prior:
        prior, made = plan_prior(job.prior_source, sizes)
        stages += made
    labels = str(job.recipe.labels)
    if job.teacher_source is not None and (
        labels != "hard" or (distiller is not None and distiller.needs_teacher)
    ):
        teacher, made = plan_teacher(job.teacher_source, sizes)
        stages += made
    if job.device is not None:
        prior = None if prior is None else prior.filled(job.device)
        teacher = None if teacher is None else filled(teacher, job.device)
    if distiller is not None:
        own = distiller.workload(sizes, Parts(prior, teacher))
        note = f"{distiller.method} does not say what it takes, or its networks are unknown"
        stages += [_unknown(f"distil by {distiller.method}", note)] if own is None else own
        stages += _student_stages(job, distiller.ipc, teacher)
    return stages


def _student_stages(job: Job, ipc: int, teacher: nn.Module | None) -> list[Stage]:
    """List labels, training and tests of all students."""
    sizes, recipe = job.sizes, job.recipe
    labels = str(recipe.labels)
    n = sizes.num_classes * ipc
    todo = recipe.plan(ipc, sizes.num_classes, n, sizes.image_size)
    seen = todo.epochs * n
    stages = []
    if labels == "stored":
        kept = recipe.label_top_k
        files = {"labels": label_bytes(seen, sizes.num_classes, kept)}
        stages.append(_labels("store labels", teacher, sizes, seen, todo.batch_size, files))
    held = image_bytes(sizes, ipc) + (weight_bytes(teacher) if labels == "online" else 0)
    for student in job.students:
        network = on_meta(student.build(cast(ImageDataModule, sizes)))  # it reads sizes alone
        if job.device is not None:
            network = filled(network, job.device)
        if labels == "online":
            name = f"label for {student.label}"
            stages.append(_labels(name, teacher, sizes, job.seeds * seen, todo.batch_size, {}))
        stages.append(
            training_stage(
                f"train {student.label}",
                student.arch,
                network,
                sizes,
                job.seeds * seen,
                todo.batch_size,
                moments=2 if recipe.optimizer == "adamw" else 1,
                kept=held,
                note=f"{todo.epochs} epochs, {_times(job.seeds)}",
            )
        )
        tests = math.ceil(todo.epochs / evaluation_interval(todo.epochs))
        stages.append(
            forward_stage(
                f"test {student.label}",
                student.arch,
                network,
                sizes,
                job.seeds * tests * sizes.test_images,
                256,
                note=f"{tests} tests, {_times(job.seeds)}",
            )
        )
    return stages


def _labels(
    name: str,
    teacher: nn.Module | None,
    sizes: Sizes,
    images: int,
    batch: int,
    files: dict[str, int],
) -> Stage:
    if teacher is None:
        return replace(_unknown(name, "the teacher is unknown"), files=files)
    return forward_stage(name, "teacher", teacher, sizes, images, batch, files=files)


def _times(seeds: int) -> str:
    return "1 seed" if seeds == 1 else f"{seeds} seeds"


def _unknown(name: str, note: str) -> Stage:
    return Stage(name, "unknown", 0, None, note=note)


def total_flops(stages: Iterable[Stage]) -> int | None:
    """Add up operations; None where any is unknown."""
    counts = [stage.flops for stage in stages]
    return None if None in counts else math.fsum(c for c in counts if c is not None).__trunc__()
