"""The stages of a run: prior, teacher, distillation, evaluation of every student, the table."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning as L

from benchmarks.results.files import Result
from benchmarks.results.records import now
from benchmarks.run.cells import CellRunner
from benchmarks.run.checks import check_classes, check_failures, check_labels, check_students
from benchmarks.run.kept import keep_configuration, list_made
from benchmarks.run.ranks import EvaluationOptions, JointRanks, Ranks, joint_arguments
from benchmarks.run.sealed_cells import run_cells
from benchmarks.run.warnings import set_warnings, teacher_warnings
from benchmarks.statistics.transfers import transfer_table
from benchmarks.students.recipes import OWN, Recipe, load_recipe, own_recipe
from benchmarks.students.student import Student
from benchmarks.tables.cell_table import cell_table
from benchmarks.tracking.artifacts import log_distilled_set
from benchmarks.tracking.loggers import WandbOptions
from benchmarks.transfer.running import TransferRun, control_of, needs_transfer, starts_of
from ddoq.bounds import check_finite
from ddoq.console import say
from ddoq.data import ImageDataModule
from ddoq.distillation.distilled_set import DistilledSet
from ddoq.distillation.distiller import Distiller
from ddoq.distillation.figures import set_sheet
from ddoq.distillation.tables import at_budget
from ddoq.errors import UserError
from ddoq.labels.compact import check_top_k
from ddoq.priors import Prior, PriorSource
from ddoq.storage.fingerprints import hash_config
from ddoq.storage.run_folder import RunFolder, SetFolder
from ddoq.teachers import Teacher, TeacherSource


@dataclass(frozen=True)
class RecipeChoice:
    """Which recipe, and what differs from it.

    Attributes:
        name: A recipe that ships with the suite, the path of a YAML file, or ``own``: the recipe that came with the
            distilled set.
        overrides: Fields of the recipe that differ; they become part of its label in every table.
    """

    name: str = "unified"
    overrides: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse numbers that are not finite; the recipe knows its bounds."""
        check_finite("recipe.overrides", self.overrides)


@dataclass
class Bench:
    """Everything that a configuration describes, and the commands over it.

    Attributes:
        data: The dataset.
        distiller: The method; None where only a prior, a teacher or a given set is asked for.
        prior_source: Where the prior comes from.
        teacher_source: Where the teacher comes from.
        students: Who learns from the set.
        seeds: Seeds of the students.
        recipe: How they learn.
        wandb: Weights & Biases options.
        output: Root of caches, distilled sets and results.
        distilled: A given distilled set to evaluate.
        force: Train students again even where results are stored.
        report: File that shall list what was made, as a JSON list of paths.
        trainer: The trainer that distils; its ranks share the work.
        trainer_settings: Arguments of the one-device trainers of prior, teacher and students; the precision is that of
            students alone.
        config: The whole resolved configuration.
        evaluation: How several ranks train students.
    """

    data: ImageDataModule
    distiller: Distiller | None
    prior_source: PriorSource | None
    teacher_source: TeacherSource | None
    students: list[Student]
    seeds: list[int]
    recipe: RecipeChoice
    wandb: WandbOptions
    output: Path
    distilled: Path | None
    force: bool
    report: Path | None
    trainer: L.Trainer
    trainer_settings: Mapping[str, Any]
    config: dict[str, Any]
    evaluation: EvaluationOptions = field(default_factory=EvaluationOptions)

    @functools.cached_property
    def dataset(self) -> ImageDataModule:
        """The dataset, set up when a command first asks for it."""
        self.data.setup()
        return self.data

    def prior(self) -> Prior:
        """Train or load the prior."""
        if self.prior_source is None:
            raise UserError("No prior is configured: give the key `prior`.")
        return self.prior_source.obtain(self.dataset, self.output, self._where)

    def teacher(self) -> Teacher:
        """Train or load the teacher."""
        if self.teacher_source is None:
            raise UserError("No teacher is configured: give the key `teacher`.")
        return self.teacher_source.obtain(self.dataset, self.output, self._where)

    @property
    def _where(self) -> dict[str, Any]:
        """Where prior and teacher work; their precision is a setting of their own."""
        return {k: v for k, v in self.trainer_settings.items() if k != "precision"}

    def distill(self) -> None:
        """Distil, or reuse what is stored."""
        _, folder = self._distilled_set()
        list_made(self.report, self.trainer, [folder])

    def fit(self) -> list[Result]:
        """Distil, then train and test every student."""
        self._check_evaluation()
        return self._evaluate(*self._distilled_set())

    def evaluate(self) -> list[Result]:
        """Train and test every student, on the given set or on the configuration's own."""
        if self.distilled is None:
            return self.fit()
        self._check_evaluation()
        distilled = DistilledSet.load(self.distilled)
        check_classes(distilled, self.distilled, self.dataset)
        return self._evaluate(distilled, self.distilled)

    def _distilled_set(self) -> tuple[DistilledSet, Path]:
        if self.distiller is None:
            raise UserError("No method is configured: give the key `model`.")
        self.distiller = at_budget(self.distiller, self.dataset.num_classes)
        return self._run(self.distiller)

    def _run(self, distiller: Distiller) -> tuple[DistilledSet, Path]:
        distiller.check(self.dataset)  # before minutes of training, not after
        prior = self.prior() if distiller.needs_prior else None
        teacher = self.teacher() if distiller.needs_teacher else None
        distiller.attach(self.dataset, prior=prior, teacher=teacher)
        distilled, folder = distiller.run(self.trainer, self.output)
        if self.trainer.is_global_zero:
            names = SetFolder(folder)
            if not names.sheet.exists():
                set_sheet(distilled, names.sheet)
            keep_configuration(names.config, self.config)
            log_distilled_set(self.wandb, folder, self.output, self.config)
        say(
            f"distilled set: {len(distilled)} images by {distiller.method}, "
            f"{distilled.metadata['cost']['seconds']:.1f} s of work, in {folder}"
        )
        return distilled, folder

    def _check_evaluation(self) -> None:
        """Refuse what could not be evaluated, before minutes of work."""
        check_students(self.students, self.seeds, self.dataset, self.trainer, self.evaluation)
        if self.distilled is None and control_of(self.distiller) is not None:
            self.evaluation.transfer.datasets(self.dataset)
            self._check_transfer_ranks()
        if self.recipe.name != OWN:  # that one is known with the set
            recipe = load_recipe(self.recipe.name, self.recipe.overrides)
            check_top_k(recipe.label_top_k, self.dataset.num_classes)
        if self.evaluation.joint(self.trainer):
            self._joint_arguments()

    def _joint_arguments(self) -> dict[str, Any]:
        return joint_arguments(self.evaluation, self.trainer, self.config.get("trainer") or {})

    def _evaluate(self, distilled: DistilledSet, folder: Path) -> list[Result]:
        if self.evaluation.set_precision == "uint8":
            distilled = distilled.rounded()
        if needs_transfer(distilled):
            self._transfer(distilled)
            return []
        recipe = self._recipe_for(distilled)
        teacher, accuracies = None, {}
        warnings = set_warnings(distilled)
        if recipe.needs_teacher or self.teacher_source is not None:
            teacher = self.teacher().to(self.trainer.strategy.root_device)
            accuracies = check_labels(teacher, distilled)
            seen = accuracies.get("accuracy_distilled")
            warnings += teacher_warnings(teacher, seen, self.dataset)
        ranks = Ranks(self.trainer, self.output)
        joint = JointRanks(self.trainer) if self.evaluation.joint(self.trainer) else None
        runner = CellRunner(
            data=self.dataset,
            distilled=distilled,
            folder=folder,
            teacher=teacher,
            teacher_accuracies=accuracies,
            recipe=recipe,
            wandb=self.wandb,
            output=self.output,
            trainer={**self.trainer_settings, **(self._joint_arguments() if joint else {})},
            config=self.config,
            joint=joint,
            warnings=warnings,
        )
        cells = [(student, seed) for seed in self.seeds for student in self.students]
        started = self._train(runner, ranks, cells)
        results = [result for cell in cells if (result := runner.find(*cell)) is not None]
        say(cell_table(results))
        announced = () if teacher is None else teacher.warnings
        for text in dict.fromkeys(text for result in results for text in result.warnings):
            if text not in announced:
                say(f"warning: {text}")
        run = RunFolder(self.output)
        list_made(self.report, self.trainer, [run.result(result.config_hash) for result in results])
        hashes = {hash_config(runner.cell_config(*cell)) for cell in cells}
        check_failures(run, hashes, results, started)
        return results

    def _check_transfer_ranks(self) -> None:
        if self.evaluation.joint(self.trainer):
            raise UserError(
                "A transfer evaluation trains each student on one device: leave out evaluation.ranks."
            )

    def _transfer(self, distilled: DistilledSet) -> None:
        """Pre-train students on a set without classes, and test them on tasks with classes."""
        self._check_transfer_ranks()
        control = None
        method = None if self.distilled else control_of(self.distiller)
        if method is not None:
            say("transfer: beside the set stands a control, its method without the optimisation")
            control, _ = self._run(method)
            if self.evaluation.set_precision == "uint8":
                control = control.rounded()
        run = TransferRun(
            self.dataset,
            starts_of(distilled, control),
            self.evaluation.transfer,
            self.students,
            self.seeds,
            self.output,
            self.trainer.strategy.root_device,
        )
        run_cells(
            run,
            self.trainer,
            transfer_table,
            wandb=self.wandb,
            force=self.force,
            report=self.report,
        )

    def _recipe_for(self, distilled: DistilledSet) -> Recipe:
        if self.recipe.name == OWN:
            return own_recipe(distilled.form.recipe, self.recipe.overrides)
        return load_recipe(self.recipe.name, self.recipe.overrides)

    def _train(self, runner: CellRunner, ranks: Ranks, cells: Sequence[tuple[Student, int]]) -> str:
        """Train and test all students, or this rank's share of them; return when it began."""
        if runner.joint is None:
            ranks.destroy_process_group()
            cells = cells[ranks.rank :: ranks.world_size]
        started = now()
        runner.run_all(cells, force=self.force)
        ranks.barrier()
        return started
