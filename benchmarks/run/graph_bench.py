"""The stages of a run on graphs, or on the nodes of one: distillation, evaluation of every student, the table."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L

from benchmarks.graphs.running import GraphRun, check_graph_students
from benchmarks.results.graphs import GraphRecord
from benchmarks.results.rerun import rerun_config_of_graphs
from benchmarks.run.checks import check_classes, check_names
from benchmarks.run.kept import keep_configuration, list_made
from benchmarks.run.ranks import EvaluationOptions
from benchmarks.run.sealed_cells import run_cells
from benchmarks.statistics.graphs import graph_table
from benchmarks.students.student import Student
from benchmarks.tracking.artifacts import log_distilled_set
from benchmarks.tracking.loggers import WandbOptions
from ddoq.console import say
from ddoq.distillation.distilled_set import DistilledSet
from ddoq.distillation.distiller import Distiller
from ddoq.distillation.tables import at_budget
from ddoq.errors import UserError
from ddoq.graphs.base import GraphData
from ddoq.storage.run_folder import SetFolder


@dataclass
class GraphBench:
    """Everything that a configuration on graphs describes, and the commands over it; see :class:`benchmarks.run.bench.Bench`.

    Attributes:
        data: The dataset.
        distiller: The method; None where only a given set is asked for.
        students: Who learns from the set.
        seeds: Seeds of the students.
        wandb: Weights & Biases options.
        output: Root of caches, distilled sets and results.
        distilled: A given distilled set to evaluate.
        force: Train students again even where results are stored.
        report: File that shall list what was made, as a JSON list of paths.
        trainer: The trainer that distils; its ranks share the work.
        config: The whole resolved configuration.
        evaluation: How students are evaluated.
    """

    data: GraphData
    distiller: Distiller[Any] | None
    students: list[Student]
    seeds: list[int]
    wandb: WandbOptions
    output: Path
    distilled: Path | None
    force: bool
    report: Path | None
    trainer: L.Trainer
    config: dict[str, Any]
    evaluation: EvaluationOptions

    @functools.cached_property
    def dataset(self) -> GraphData:
        """The dataset, set up when a command first asks for it."""
        self.data.setup()
        for note in self.data.notes:
            say(f"{self.data.name}: {note}")
        return self.data

    def prior(self) -> None:
        """Refuse: graphs have none."""
        raise UserError(
            f"{self.data.name} holds {self.data.holds}: there is no prior to train for them."
        )

    def teacher(self) -> None:
        """Refuse: graphs have none."""
        raise UserError(
            f"{self.data.name} holds {self.data.holds}: there is no teacher to train for them."
        )

    def distill(self) -> None:
        """Distil, or reuse what is stored."""
        _, folder = self._distilled_set()
        list_made(self.report, self.trainer, [folder])

    def fit(self) -> list[GraphRecord]:
        """Distil, then train and test every student."""
        self.check_evaluation()
        distilled, _ = self._distilled_set()
        return self._evaluate(distilled)

    def evaluate(self) -> list[GraphRecord]:
        """Train and test every student, on the given set or on the configuration's own."""
        if self.distilled is None:
            return self.fit()
        self.check_evaluation()
        distilled = DistilledSet.load(self.distilled)
        self.dataset.read(distilled)  # what holds something else is refused as such
        check_classes(distilled, self.distilled, self.dataset)
        return self._evaluate(distilled)

    def check_evaluation(self) -> None:
        """Refuse what could not be evaluated, before minutes of work."""
        check_names(self.students, self.seeds)
        check_graph_students(self.students, self.data.holds)
        if self.evaluation.joint(self.trainer):
            raise UserError(
                "Students of graphs are trained on one device: leave out evaluation.ranks."
            )
        if self.evaluation.set_precision != "stored":
            raise UserError("Graphs are stored as they are: leave out evaluation.set_precision.")

    def _distilled_set(self) -> tuple[DistilledSet, Path]:
        if self.distiller is None:
            raise UserError("No method is configured: give the key `model`.")
        self.distiller = at_budget(self.distiller, self.dataset.num_classes)
        self.distiller.attach(self.dataset)
        distilled, folder = self.distiller.run(self.trainer, self.output)
        if self.trainer.is_global_zero:
            names = SetFolder(folder)
            if not names.sheet.exists():
                self.dataset.draw(distilled, names.sheet)
            keep_configuration(names.config, self.config)
            log_distilled_set(self.wandb, folder, self.output, self.config)
        say(
            f"distilled set: {len(distilled)} {self.data.holds} by {self.distiller.method}, "
            f"{distilled.metadata['cost']['seconds']:.1f} s of work, in {folder}"
        )
        return distilled, folder

    def _evaluate(self, distilled: DistilledSet) -> list[GraphRecord]:
        run = GraphRun(
            self.dataset,
            distilled,
            self.evaluation.graphs,
            self.students,
            self.seeds,
            self.output,
            self.trainer.strategy.root_device,
            rerun_config_of_graphs(self.config),
        )
        return run_cells(
            run, self.trainer, graph_table, wandb=self.wandb, force=self.force, report=self.report
        )
