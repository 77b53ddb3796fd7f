"""The stages of a run: prior, teacher, distillation, evaluation of every student, the table."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.utilities.seed import isolate_rng

from benchmarks.results.files import Result, read_failures
from benchmarks.results.records import now
from benchmarks.run.cells import CellRunner
from benchmarks.run.ranks import EvaluationOptions, Ranks, check_strategy, joint_arguments
from benchmarks.students.batch_norm import synchronize_batch_norm
from benchmarks.students.recipes import OWN, Recipe, load_recipe, own_recipe
from benchmarks.students.student import Student
from benchmarks.tables.cell_table import cell_table
from benchmarks.tracking.artifacts import log_distilled_set
from benchmarks.tracking.loggers import WandbOptions
from ddoq.console import say
from ddoq.data import ImageDataModule
from ddoq.distillation.distilled_set import DistilledSet
from ddoq.distillation.distiller import Distiller
from ddoq.distillation.figures import set_sheet
from ddoq.distillation.tables import at_budget
from ddoq.errors import UserError
from ddoq.labels.compact import check_top_k
from ddoq.priors import Prior, PriorSource
from ddoq.storage.files import write_json
from ddoq.storage.fingerprints import hash_config
from ddoq.storage.run_folder import RunFolder, SetFolder
from ddoq.teachers import Teacher, TeacherSource, label_order_check, teacher_accuracy


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
        trainer_settings: Arguments of the one-device trainers of prior, teacher and students.
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

    def obtain_prior(self, *, required: bool) -> Prior | None:
        """Train or load the prior.

        Args:
            required: Whether its absence from the configuration is a mistake.
        """
        self.data.setup()
        if self.prior_source is None:
            if required:
                raise UserError("No prior is configured: give the key `prior`.")
            return None
        return self.prior_source.obtain(self.data, self.output, self.trainer_settings)

    def obtain_teacher(self, *, required: bool) -> Teacher | None:
        """Train or load the teacher; see :meth:`obtain_prior`."""
        self.data.setup()
        if self.teacher_source is None:
            if required:
                raise UserError("No teacher is configured: give the key `teacher`.")
            return None
        return self.teacher_source.obtain(self.data, self.output, self.trainer_settings)

    def distill(self) -> None:
        """Distil, or reuse what is stored."""
        _, folder = self._distilled_set()
        self._write_report([folder])

    def _distilled_set(self) -> tuple[DistilledSet, Path]:
        if self.distiller is None:
            raise UserError("No method is configured: give the key `model`.")
        self.data.setup()
        self.distiller = at_budget(self.distiller, self.data.num_classes)
        self.distiller.check(self.data)  # before minutes of training, not after
        needs_prior, needs_teacher = self.distiller.needs_prior, self.distiller.needs_teacher
        prior = self.obtain_prior(required=True) if needs_prior else None
        teacher = self.obtain_teacher(required=True) if needs_teacher else None
        self.distiller.attach(self.data, prior=prior, teacher=teacher)
        distilled, folder = self.distiller.run(self.trainer, self.output)
        if self.trainer.is_global_zero:
            sheet = SetFolder(folder).sheet
            if not sheet.exists():
                set_sheet(distilled, sheet)
            write_json(SetFolder(folder).config, self.config)
            log_distilled_set(self.wandb, folder, self.output, self.config)
        say(
            f"distilled set: {len(distilled)} images by {self.distiller.method}, "
            f"{distilled.metadata['cost']['seconds']:.1f} s of work, in {folder}"
        )
        return distilled, folder

    def fit(self) -> list[Result]:
        """Distil, then train and test every student."""
        self._check_plan()
        return self._evaluate(*self._distilled_set())

    def evaluate(self) -> list[Result]:
        """Train and test every student, on the given set or on the configuration's own."""
        if self.distilled is None:
            return self.fit()
        self._check_plan()
        distilled = DistilledSet.load(self.distilled)
        keys = distilled.metadata.get("class_keys")
        names = self.data.classes.names
        if distilled.class_names != names or (keys and keys != self.data.classes.keys):
            raise UserError(
                f"{self.distilled} was made for other classes ({', '.join(distilled.class_names[:4])}, ...) "
                f"than {self.data.name} has ({', '.join(names[:4])}, ...), or for another order of them."
            )
        return self._evaluate(distilled, self.distilled)

    def _load_recipe(self, distilled: DistilledSet | None) -> Recipe:
        if self.recipe.name == OWN and distilled is not None:
            return own_recipe(distilled.form.recipe, self.recipe.overrides)
        return load_recipe(self.recipe.name, self.recipe.overrides)

    def _check_plan(self) -> None:
        if not self.students:
            raise UserError(
                "No student is configured: give the key `students`, e.g. [{arch: resnet18}]."
            )
        if not self.seeds:
            raise UserError("No seed is given: `seeds` must list at least one integer.")
        labels = [student.label for student in self.students]
        if len(set(labels)) < len(labels):
            raise UserError(
                f"Two students share a name: {', '.join(labels)}. Give them different `name`s."
            )
        self.data.setup()
        if self.recipe.name != OWN:  # that one is known with the set
            check_top_k(self._load_recipe(None).label_top_k, self.data.num_classes)
        device = self.trainer.strategy.root_device
        with isolate_rng():  # wrong names and arguments show up here, before minutes of work
            for student in self.students:
                network = student.build(self.data)
                if self._joint and self.evaluation.sync_batchnorm:
                    synchronize_batch_norm(network, device, student.label)
        if self._joint:
            self._joint_arguments()
        check_strategy(self.trainer)

    @property
    def _joint(self) -> bool:
        return self.evaluation.ranks == "ddp" and self.trainer.world_size > 1

    def _joint_arguments(self) -> dict[str, Any]:
        return joint_arguments(self.evaluation, self.trainer, self.config.get("trainer") or {})

    def _evaluate(self, distilled: DistilledSet, folder: Path) -> list[Result]:
        if self.evaluation.set_precision == "uint8":
            distilled = distilled.rounded()
        recipe = self._load_recipe(distilled)
        teacher = self.obtain_teacher(required=recipe.needs_teacher)
        runner = CellRunner(
            data=self.data,
            distilled=distilled,
            folder=folder,
            teacher=teacher,
            teacher_accuracies=self._check_labels(teacher, distilled),
            recipe=recipe,
            wandb=self.wandb,
            output=self.output,
            trainer=self.trainer_settings,
            config=self.config,
        )
        ranks = Ranks(self.trainer, self.output)
        if self._joint:
            runner.trainer = {**self.trainer_settings, **self._joint_arguments()}
            runner.joint = ranks.joint()
        cells = [(student, seed) for seed in self.seeds for student in self.students]
        mine = cells
        if not self._joint:
            ranks.destroy_process_group()
            mine = cells[self.trainer.global_rank :: self.trainer.world_size]
        started = now()
        for cell in mine:
            runner.run(*cell, force=self.force)
        ranks.barrier()
        results = [found for cell in cells if (found := runner.find(*cell)) is not None]
        say(cell_table(results))
        run = RunFolder(self.output)
        self._write_report([run.result(result.config_hash) for result in results])
        self._check_failures(
            {hash_config(runner.cell_config(*cell)) for cell in cells}, results, started
        )
        return results

    def _check_failures(self, cells: set[str], results: list[Result], started: str) -> None:
        """End with an error if a cell has no result, or has failed on any rank since ``started``."""
        missing = cells - {result.config_hash for result in results}
        failures, _ = read_failures(RunFolder(self.output).failures, results)
        again = {failure.config_hash for failure in failures if failure.created >= started}
        failed = missing | (cells & again)
        if failed:
            kept = len(failed) - len(missing)
            older = f" ({kept} of them keep the result of an earlier run)" if kept else ""
            raise UserError(
                f"{len(failed)} of {len(cells)} students failed{older}; see {RunFolder(self.output).failures}."
            )

    def _write_report(self, made: list[Path]) -> None:
        if self.report is not None and self.trainer.is_global_zero:
            write_json(self.report, made)

    def _check_labels(self, teacher: Teacher | None, distilled: DistilledSet) -> dict[str, float]:
        if teacher is None:
            return {}
        real = teacher.accuracy
        teacher.to(self.trainer.strategy.root_device)
        decoded = distilled.decode()
        labels = decoded.classes()
        if labels is None:  # nobody can say what the teacher ought to see
            return {"accuracy_real": real}
        made = teacher_accuracy(teacher, decoded.pixels(), labels)
        say(
            f"teacher {teacher.arch}: {real:.2%} on real test images, {made:.2%} on distilled images"
        )
        label_order_check(real, made, self.data.num_classes, len(labels))
        return {"accuracy_real": real, "accuracy_distilled": made}
