"""Runs a transfer evaluation: every start, student, seed and target once, resumable, a result file each."""

import copy
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn

from benchmarks.results.records import SetConfig, now
from benchmarks.results.running import SealedRun
from benchmarks.results.transfers import (
    TRANSFER_FORMAT,
    TRANSFERS,
    UNTRAINED,
    TransferCell,
    TransferRecord,
)
from benchmarks.students.student import Student
from benchmarks.transfer.probe import probe_accuracy
from benchmarks.transfer.protocol import TransferProtocol
from benchmarks.transfer.training import Task, pretrain
from ddoq.data import ImageDataModule
from ddoq.distillation.distilled_set import DistilledSet
from ddoq.distillation.distiller import Distiller
from ddoq.errors import UserError
from ddoq.finite import NotFiniteError
from ddoq.images import to_float
from ddoq.labels.targets import Targets
from ddoq.networks import count_parameters
from ddoq.networks.features import replace_classifier
from ddoq.seeding import derive_seed
from ddoq.storage.damage import read_or_set_aside
from ddoq.storage.files import load_tensors, save_tensors
from ddoq.storage.fingerprints import hash_config, plain
from ddoq.storage.locks import locked
from ddoq.storage.provenance import provenance
from ddoq.storage.records import hashed_fields
from ddoq.storage.run_folder import RunFolder

CONTROL = "real images"  # the start that is a method's control


@runtime_checkable
class Controlled(Protocol):
    """A method whose sets are evaluated by transfer, beside those of a control: itself without its optimisation."""

    def control(self) -> Distiller:
        """Return the control."""
        ...


def control_of(method: object) -> Distiller | None:
    """Return the control of a method; None where it has none, or is none."""
    return method.control() if isinstance(method, Controlled) else None


def needs_transfer(distilled: DistilledSet) -> bool:
    """Say whether a set has no classes that a student could be tested on, but vectors of any meaning."""
    targets = distilled.targets
    return distilled.labels is None and targets is not None and targets.kind == "vectors"


@dataclass(frozen=True)
class Start:
    """What a student learns from first.

    Attributes:
        name: What tables call it.
        distilled: The set; None for a network that is not pre-trained.
    """

    name: str
    distilled: DistilledSet | None

    @property
    def images(self) -> int:
        """Number of its images."""
        return 0 if self.distilled is None else len(self.distilled)


class _Input(NamedTuple):
    """What a student's first network is built for; see :class:`benchmarks.students.student.InputSizes`."""

    num_classes: int
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class _Place(NamedTuple):
    """One cell."""

    target: ImageDataModule
    seed: int
    student: Student
    start: Start


@dataclass
class TransferRun(SealedRun[_Place, TransferRecord]):
    """The transfer evaluation of one set.

    Attributes:
        source: Dataset that the set was made of, set up.
        starts: What students learn from first; the first of them is the set that decides the width of the vectors, and
            the space of images.
        protocol: How.
        students: Who learns.
        seeds: Once each.
        output: Root of the results.
        device: Where to train.
    """

    source: ImageDataModule
    starts: Sequence[Start]
    protocol: TransferProtocol
    students: Sequence[Student]
    seeds: Sequence[int]
    output: Path
    device: torch.device
    _tasks: dict[str, Task] = field(default_factory=dict)

    kind = TRANSFERS
    noun = "result of transfer"

    def __post_init__(self) -> None:
        """Read from the set what all students of it share."""
        distilled = self.starts[0].distilled
        assert distilled is not None
        assert distilled.targets is not None
        self.width = distilled.targets.width
        self.transform = distilled.form.transform
        self.datasets = self.protocol.datasets(self.source)

    def places(self) -> list[_Place]:
        """List all cells, in the order in which they are run."""
        listed = itertools.product(self.datasets, self.seeds, self.students, self.starts)
        return [_Place(*parts) for parts in listed]

    def config(self, place: _Place) -> dict[str, Any]:
        """Return all that decides the numbers of a cell, as JSON values."""
        distilled = place.start.distilled
        written: dict[str, Any] = plain(
            {
                "format": TRANSFER_FORMAT,
                "source": self.source.describe(),
                "set": (
                    None
                    if distilled is None
                    else hashed_fields(SetConfig.of(distilled.metadata, distilled.fingerprint))
                ),
                "target": place.target.describe(),
                "student": {**hashed_fields(place.student), "name": None},
                "seed": place.seed,
                "protocol": self.protocol.numbers(),
                "precision": "32-true",
            }
        )
        return written

    def name(self, place: _Place) -> str:
        """Say what messages call a cell."""
        student, start, target = place.student.label, place.start.name, place.target.name
        return f"{student}, seed {place.seed}, {start}, {target}"

    def summary(self, place: _Place, record: TransferRecord) -> str:
        """Say in a line what came out."""
        return (
            f"transfer: {self.name(place)}: probe {record.probe_top1:.2%}, fine-tuned {record.tuned_top1:.2%}, "
            f"{record.cost['seconds']:.1f} s"
        )

    def evaluate(self, place: _Place, key: str) -> TransferRecord:
        """Pre-train, probe and fine-tune one student."""
        checkpoint = self.checkpoint(key)
        network, pretrained = self._pretrained(place)
        task = self._task(place.target)
        classes = place.target.num_classes
        features = _frozen(copy.deepcopy(network))
        probe = probe_accuracy(
            task.answers(features, "train"), task.answers(features, "test"), classes
        )
        with isolate_rng():
            torch.manual_seed(derive_seed(place.seed, "transfer", "classifier"))
            replace_classifier(network, lambda width: nn.Linear(width, classes))
        network = network.to(self.device)
        try:
            tuned = task.fine_tune(network, self.protocol, place.seed, checkpoint)
        except NotFiniteError:
            checkpoint.clear()  # nobody shall go on from there
            raise
        checkpoint.clear()
        return TransferRecord(
            cell=TransferCell(
                source=self.source.name,
                target=place.target.name,
                start=place.start.name,
                images=place.start.images,
                student=place.student.label,
                seed=place.seed,
                distill_seed=_metadata(place.start).get("seed"),
            ),
            config=self.config(place),
            probe_top1=probe,
            tuned_top1=tuned,
            pretrain_loss=pretrained.get("loss"),
            cost={
                "seconds": checkpoint.elapsed,
                "pretrain_seconds": pretrained.get("seconds"),
                "params": count_parameters(network),
            },
            distilled=_facts(place.start),
            provenance=provenance(),
            created=now(),
        )

    def _task(self, target: ImageDataModule) -> Task:
        if target.name not in self._tasks:
            self._tasks.clear()  # one at a time: images stay on the device
            self._tasks[target.name] = Task(target, self.transform, self.device)
        return self._tasks[target.name]

    def _network(self, student: Student, seed: int) -> nn.Module:
        """Draw a network that answers with vectors; that of a seed is the same for every start."""
        sizes = _Input(self.width, self.source.image_size, self.source.mean, self.source.std)
        with isolate_rng():
            torch.manual_seed(derive_seed(seed, "transfer", "network"))
            network = student.build(sizes, normalize=self.transform is None)
        return network.to(self.device).eval()

    def _pretrained(self, place: _Place) -> tuple[nn.Module, dict[str, Any]]:
        """Draw a network and pre-train it, or load what was pre-trained for another target."""
        network = self._network(place.student, place.seed)
        distilled = place.start.distilled
        if distilled is None:
            return network, {}
        config = self.config(place)
        shared = {name: config[name] for name in ("format", "set", "student", "seed", "precision")}
        normalised = None if self.transform else [self.source.mean, self.source.std]
        key = hash_config({**shared, **self.protocol.pretraining(), "normalised": normalised})
        run = RunFolder(self.output)
        path = run.transfer_network(key)
        with locked(self.kind.lock(run, key), f"waiting for {path.name}: another process makes it"):
            stored = read_or_set_aside(path, load_tensors)
            if stored is None:
                stored = self._pretrain(network, distilled, place.seed, key)
                save_tensors(path, *stored)
        tensors, facts = stored
        network.load_state_dict(tensors)
        return network, facts

    def _pretrain(
        self, network: nn.Module, distilled: DistilledSet, seed: int, key: str
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        checkpoint = self.checkpoint(key)
        decoded = distilled.decode().to(self.device)
        targets = _vectors(decoded.targets)
        images = decoded.images
        if images.dtype == torch.uint8:
            images = to_float(images)
        if decoded.gives_pixels and decoded.transform is not None:
            images = decoded.transform.apply(images)
        try:
            loss = pretrain(network, images, targets, self.protocol, seed, checkpoint)
        except NotFiniteError:
            checkpoint.clear()
            raise
        checkpoint.clear()
        tensors = {name: value.cpu() for name, value in network.state_dict().items()}
        return tensors, {"loss": loss, "seconds": checkpoint.elapsed}


def _vectors(targets: Targets | None) -> Tensor:
    assert targets is not None
    return targets.values


def _frozen(network: nn.Module) -> nn.Module:
    """Take the classifier away, so that a network gives features."""
    replace_classifier(network, lambda _: nn.Identity())
    return network.eval()


def _metadata(start: Start) -> Mapping[str, Any]:
    return {} if start.distilled is None else start.distilled.metadata


def _facts(start: Start) -> dict[str, Any]:
    distilled = start.distilled
    if distilled is None:
        return {}
    return {
        "fingerprint": distilled.fingerprint,
        "stored_bytes": distilled.stored_bytes,
        "cost": distilled.metadata.get("cost", {}),
        "statistics": distilled.metadata.get("statistics", {}),
    }


def starts_of(distilled: DistilledSet, control: DistilledSet | None) -> list[Start]:
    """List what students learn from first: the set, its control where there is one, and nothing.

    Raises:
        UserError: If the control does not go with the set.
    """
    starts = [Start(distilled.metadata.get("method", "imported"), distilled)]
    if control is not None:
        widths = {_vectors(each.targets).shape[1] for each in (distilled, control)}
        if len(widths) > 1:
            raise UserError("The control of the method has vectors of another length than its set.")
        starts.append(Start(CONTROL, control))
    return [*starts, Start(UNTRAINED, None)]
