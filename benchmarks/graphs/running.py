"""Trains and tests students on a distilled set of graphs, or of nodes: each student and seed once, resumable, a result file each."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from benchmarks.graphs.protocol import GraphProtocol
from benchmarks.results.graphs import GRAPHS, GRAPHS_FORMAT, GraphCell, GraphRecord
from benchmarks.results.records import SetConfig, now
from benchmarks.results.running import SealedRun
from benchmarks.students.student import Student
from ddoq.distillation.distilled_set import DistilledSet
from ddoq.errors import UserError
from ddoq.finite import NotFiniteError
from ddoq.graphs.base import GraphData
from ddoq.graphs.build import Task, draw_graph_network, graph_settings
from ddoq.graphs.training import Training, answers, score
from ddoq.networks import count_parameters
from ddoq.storage.fingerprints import plain
from ddoq.storage.provenance import provenance
from ddoq.storage.records import hashed_fields

_MEND = "Lower evaluation.graphs.lr, or the student's own lr."


class _Place(NamedTuple):
    """One cell."""

    seed: int
    student: Student


@dataclass
class _Best:
    """The epoch that was best on validation samples; of equals the first.

    Attributes:
        val: Its score there; -1 before the first look.
        test: Its score on test samples.
        epoch: Its number, from 1 on.
    """

    val: float = -1.0
    test: float = 0.0
    epoch: int = 0


def check_graph_students(students: Sequence[Student], task: Task) -> None:
    """Refuse students that are no networks on graphs.

    Args:
        students: Who learns.
        task: Whether they classify graphs or nodes.

    Raises:
        UserError: Naming the student.
    """
    for student in students:
        if student.stem is not None:
            raise UserError(f"Student {student.label!r}: networks on graphs have no stem.")
        graph_settings(student.arch, student.kwargs, task)


@dataclass
class GraphRun(SealedRun[_Place, GraphRecord]):
    """The evaluation of one set of graphs, or of nodes.

    Attributes:
        data: The dataset, set up.
        distilled: The set.
        protocol: How students learn.
        students: Who learns.
        seeds: Once each.
        output: Root of the results.
        device: Where to train.
        settings: Of the run, as results keep them; None where it has none.

    Raises:
        UserError: If the set does not hold what the dataset does, or was made from another one.
    """

    data: GraphData
    distilled: DistilledSet
    protocol: GraphProtocol
    students: Sequence[Student]
    seeds: Sequence[int]
    output: Path
    device: torch.device
    settings: dict[str, Any] | None = None

    kind = GRAPHS

    def __post_init__(self) -> None:
        """Read what the set holds."""
        self.stored = self.data.read(self.distilled)
        if self.stored.x.shape[1] != self.data.num_features:
            raise UserError(
                f"The nodes of the distilled set have {self.stored.x.shape[1]} features, those of {self.data.name} "
                f"{self.data.num_features}: it was made from another dataset, or with other data.init_args."
            )
        self.train = self.stored.to(self.device)
        self.val = self.data.val.to(self.device)
        self.test = self.data.test.to(self.device)

    def places(self) -> list[_Place]:
        """List all cells, in the order in which they are run."""
        return [_Place(*parts) for parts in itertools.product(self.seeds, self.students)]

    def config(self, place: _Place) -> dict[str, Any]:
        """Return all that decides the numbers of a cell, as JSON values."""
        chosen = SetConfig.of(self.distilled.metadata, self.distilled.fingerprint)
        written: dict[str, Any] = plain(
            {
                "format": GRAPHS_FORMAT,
                "data": self.data.describe(),
                "set": hashed_fields(chosen),
                "student": {**hashed_fields(place.student), "name": None},
                "seed": place.seed,
                "protocol": self.protocol.numbers(),
            }
        )
        return written

    def name(self, place: _Place) -> str:
        """Say what messages call a cell."""
        return f"{place.student.label}, seed {place.seed}"

    def summary(self, place: _Place, record: GraphRecord) -> str:
        """Say in a line what came out."""
        return (
            f"{self.name(place)}: test {record.metric} {record.test_last:.2%} after the last epoch, {record.test_best:.2%} "
            f"after the best on validation {self.data.holds} ({record.best_epoch}), {record.cost['seconds']:.1f} s"
        )

    def evaluate(self, place: _Place, key: str) -> GraphRecord:
        """Train and test one student."""
        checkpoint = self.checkpoint(key)
        student, seed = place.student, place.seed
        network = draw_graph_network(
            student.arch,
            self.data.num_features,
            self.data.num_classes,
            "graph student",
            seed=seed,
            task=self.data.holds,
            **student.kwargs,
        ).to(self.device)
        best = _Best()
        training = Training(
            network,
            self.train,
            epochs=self.protocol.epochs,
            batch_size=self.protocol.batch_size,
            lr=self.protocol.lr if student.lr is None else student.lr,
            keys=(seed, "graph student order"),
            watch=lambda epoch: self._look(network, epoch, best),
            further=lambda: vars(best),
            restore=lambda state: vars(best).update(state),
        )
        try:
            loss = training.run(checkpoint, self.name(place), _MEND)
            last = self._score(network, "test")
        except NotFiniteError:
            checkpoint.clear()  # nobody shall go on from there
            raise
        checkpoint.clear()
        metadata = self.distilled.metadata
        return GraphRecord(
            cell=GraphCell(
                dataset=self.data.name,
                method=metadata.get("method", "imported"),
                ipc=metadata.get("ipc", self.distilled.ipc),
                student=student.label,
                seed=seed,
                distill_seed=metadata.get("seed"),
            ),
            config=self.config(place),
            metric=self.data.metric,
            test_last=last,
            test_best=best.test,
            val_best=best.val,
            best_epoch=best.epoch,
            train_loss=loss,
            cost={"seconds": checkpoint.elapsed, "params": count_parameters(network)},
            distilled=self._facts(metadata),
            provenance=provenance(),
            created=now(),
            run=self.settings,
        )

    def _look(self, network: nn.Module, epoch: int, best: _Best) -> None:
        """Keep the scores of an epoch where it is better on validation samples than those before."""
        done = epoch + 1
        if done % self.protocol.validate_every and done < self.protocol.epochs:
            return
        val = self._score(network, "val")
        if val > best.val:
            vars(best).update(val=val, test=self._score(network, "test"), epoch=done)

    def _score(self, network: nn.Module, split: str) -> float:
        samples = {"val": self.val, "test": self.test}[split]
        logits = answers(network, samples)
        if not bool(torch.isfinite(logits).all()):
            raise NotFiniteError(f"its logits on {split} {self.data.holds} are not finite. {_MEND}")
        return score(logits, samples.labels, self.data.metric)

    def _facts(self, metadata: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "fingerprint": self.distilled.fingerprint,
            "graphs": len(self.stored) if self.data.holds == "graphs" else 1,
            "nodes": len(self.stored.x),
            "edges": self.stored.edges.shape[1] // 2,
            "stored_bytes": self.stored.stored_bytes,
            "cost": metadata.get("cost", {}),
            "statistics": metadata.get("statistics", {}),
        }
