"""One cell of the benchmark: train and test one student with one seed, and write its result."""

import functools
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import Timeout

from benchmarks.results.files import (
    Cell,
    Result,
    failure_path,
    find_result,
    make_result,
    write_failure,
    write_result,
)
from benchmarks.results.outcome import Outcome
from benchmarks.results.records import CellConfig, JointConfig, SetConfig
from benchmarks.results.rerun import rerun_config
from benchmarks.run.ranks import JointRanks
from benchmarks.run.warnings import network_warnings, student_warnings
from benchmarks.students.evaluation import Run, evaluate_student
from benchmarks.students.recipe import Recipe
from benchmarks.students.stored_labels import LABEL_FORMAT
from benchmarks.students.student import Student
from benchmarks.students.training_set import TrainingSet
from benchmarks.tracking.loggers import WandbOptions, finish, student_loggers
from ddoq.console import say
from ddoq.data import ImageDataModule
from ddoq.distillation.distilled_set import DistilledSet
from ddoq.errors import UserError
from ddoq.finite import DivergedError
from ddoq.storage.checkpoints import Checkpoint
from ddoq.storage.disk import disk_error
from ddoq.storage.fingerprints import hash_config
from ddoq.storage.keys import precision_name
from ddoq.storage.locks import locked
from ddoq.storage.provenance import provenance
from ddoq.storage.records import hashed_fields
from ddoq.storage.run_folder import RunFolder, SetFolder
from ddoq.teachers import Teacher

# Raised whenever a change of code changes how a student is trained or tested, so that old rows are not reused.
EVALUATION_FORMAT = 1
# That of precisions other than 32-true: they act on the student's network alone, where they once acted on labels and
# augmentation, too.
REDUCED_FORMAT = 2


@dataclass
class CellRunner:
    """What all cells of one run share.

    Attributes:
        data: The dataset, set up.
        distilled: The set to learn from.
        folder: Where the set is stored.
        teacher: Labels images; None for hard labels.
        teacher_accuracies: ``accuracy_real`` and ``accuracy_distilled``, in [0, 1].
        recipe: How students learn.
        wandb: Weights & Biases options.
        output: Root of results.
        trainer: Arguments of the students' trainers.
        config: The whole resolved configuration, for the loggers and the record.
        joint: The ranks that train each student together; None where this process trains alone.
        warnings: What rows must say of their teacher and their set.
    """

    data: ImageDataModule
    distilled: DistilledSet
    folder: Path
    teacher: Teacher | None
    teacher_accuracies: Mapping[str, float]
    recipe: Recipe
    wandb: WandbOptions
    output: Path
    trainer: Mapping[str, Any]
    config: Mapping[str, Any]
    joint: JointRanks | None = None
    warnings: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Show test images as the recipe does, unless the dataset says how."""
        self.data = self.data.with_test_resize(self.recipe.test_side(self.data.image_size))

    @functools.cached_property
    def training(self) -> TrainingSet:
        """The set as the recipe shows it to all students; decoded and planned once."""
        return TrainingSet.of(self.distilled, self.recipe, self.data.mean, self.data.std)

    def cell(self, student: Student, seed: int) -> Cell:
        """Name a cell."""
        record = self.distilled.metadata
        return Cell(
            dataset=self.data.name,
            method=record.get("method", "imported"),
            ipc=self.distilled.ipc,
            student=student.label,
            seed=seed,
            distill_seed=record.get("seed"),
            recipe=self.recipe.label,
        )

    def cell_config(self, student: Student, seed: int) -> dict[str, Any]:
        """Return everything that decides a cell's numbers; its hash names the result file."""
        joint = None
        if self.joint is not None:
            synchronised = bool(self.trainer.get("sync_batchnorm"))
            joint = JointConfig(self.joint.world_size, synchronised)
        precision = precision_name(self.trainer.get("precision"))
        return CellConfig(
            format=EVALUATION_FORMAT if precision == "32-true" else REDUCED_FORMAT,
            data=self.data.describe(),
            distilled=SetConfig.of(self.distilled.metadata, self.training.fingerprint),
            teacher=self.teacher.fingerprint if self.teacher else None,
            recipe=self.recipe.config(),
            student={**hashed_fields(student), "name": None},  # what it is called decides nothing
            seed=seed,
            precision=precision,
            label_format=LABEL_FORMAT if self.recipe.labels == "stored" else None,
            evaluation=joint,
        ).record()

    def find(self, student: Student, seed: int) -> Result | None:
        """Return the stored result of a cell, if any, under the names that it has now."""
        folder = RunFolder(self.output).results
        stored = find_result(folder, self.cell_config(student, seed))
        cell = self.cell(student, seed)
        if stored is None or stored.cell == cell:
            return stored
        say(f"{cell.student}, seed {seed}: the result of {stored.cell.student} is renamed")
        renamed = replace(stored, cell=cell)
        write_result(folder, renamed)
        return renamed

    def run_all(self, cells: Sequence[tuple[Student, int]], *, force: bool = False) -> None:
        """Run cells; those that another process is at come last, when their results may be there.

        Args:
            cells: Students and seeds.
            force: See :meth:`run`.
        """
        others = []
        for student, seed in cells:
            try:
                self.run(student, seed, force=force, wait=self.joint is not None)
            except Timeout:
                others.append((student, seed))
        for student, seed in others:
            self.run(student, seed, force=force)

    def run(
        self, student: Student, seed: int, *, force: bool = False, wait: bool = True
    ) -> Result | None:
        """Train and test one student, or reuse its result.

        Of several processes in one output one trains it, the others wait and take its result.

        Args:
            student: Who learns.
            seed: Decides initialisation, order and augmentation.
            force: Train again even where a result is stored.
            wait: Wait for another process that is at it.

        Returns:
            The result, or None where it failed; the failure is then in a file of its own.

        Raises:
            Timeout: If another process is at it and we do not wait.
        """
        stored = None if force else self._find_on_all(student, seed)
        if stored is not None:
            return stored
        with self._alone(student, seed, wait=wait):
            stored = None if force else self._find_on_all(student, seed)  # made while we waited
            if stored is not None:
                return stored
            if self.joint is not None:
                return self._run_jointly(self.joint, student, seed)
            try:
                return self._train(student, seed)
            except Exception as error:  # recorded, told, and the run ends with an error
                refused = disk_error(error, self.output)
                if (
                    refused is not None
                ):  # neither this failure nor any later student could be written
                    raise refused from error
                self._record_failure(student, seed, error)
                return None

    @contextmanager
    def _alone(self, student: Student, seed: int, *, wait: bool = True) -> Iterator[None]:
        """Keep other processes from a cell: its logs and its checkpoint have room for one."""
        if self.joint is not None and self.joint.rank > 0:
            yield  # the first rank has the lock
            return
        path = RunFolder(self.output).student_lock(hash_config(self.cell_config(student, seed)))
        waiting = f"waiting for {student.label}, seed {seed}: another process trains it"
        with locked(path, waiting, wait=wait):
            yield

    def _find_on_all(self, student: Student, seed: int) -> Result | None:
        """Find a result; where ranks train together the first looks for all."""
        if self.joint is None:
            return self.find(student, seed)
        return self.joint.broadcast_from_first(lambda: self.find(student, seed))

    def _run_jointly(self, joint: JointRanks, student: Student, seed: int) -> Result | None:
        """Do as :meth:`run` on all ranks at once; rank 0 writes and speaks for all.

        What keeps any rank from training fails the student on all of them, and the run goes on. So does a training
        that diverges, of which all ranks learn at the same step. Otherwise, once training has begun, nobody knows where
        the other ranks are: an error then ends the run.
        """
        started = time.time()
        gathered = training = False

        def before_fit() -> None:
            nonlocal gathered, training
            gathered = True
            joint.gather_errors(None)
            training = True

        try:
            return self._train(student, seed, before_fit)
        except Exception as error:
            if not gathered:
                joint.gather_errors(error)
            if training and not isinstance(error, DivergedError):
                raise self._abort(joint, student, seed, error, started) from error
            if joint.rank == 0:
                self._record_failure(student, seed, error)
            return None

    def _abort(
        self, joint: JointRanks, student: Student, seed: int, error: Exception, started: float
    ) -> UserError:
        """End the other ranks after an error in training; return what this one is to raise."""
        config = self.cell_config(student, seed)
        path = failure_path(RunFolder(self.output).failures, self.cell(student, seed), config)
        who = f"{student.label}, seed {seed} failed"
        if written_since(path, started):  # by the rank whose end this one noticed
            joint.abort()
            return UserError(f"{who}; see {path}.")
        self._record_failure(student, seed, error, f" on rank {joint.rank}")
        joint.abort()
        return UserError(
            f"{who} on rank {joint.rank} while {joint.world_size} ranks trained it together, which ends the run; see "
            f"{path}. Students that are done will be reused."
        )

    def _record_failure(
        self, student: Student, seed: int, error: Exception, where: str = ""
    ) -> None:
        text = str(error) if isinstance(error, UserError) else traceback.format_exc()
        cell, config = self.cell(student, seed), self.cell_config(student, seed)
        path = write_failure(RunFolder(self.output).failures, cell, text, config)
        what = f"{student.label}, seed {seed}: {error} (details in {path})"
        print(f"failed{where}: {what}", flush=True)

    def _train(
        self, student: Student, seed: int, before_fit: Callable[[], None] | None = None
    ) -> Result:
        cell, config = self.cell(student, seed), self.cell_config(student, seed)
        alone = self.joint is None or self.joint.rank == 0
        loggers = []
        if alone:
            loggers = student_loggers(self.wandb, RunFolder(self.output).students, cell, config)
        result = None
        try:
            key = hash_config(config)
            path = RunFolder(self.output).student_checkpoint(key)
            run = Run(
                trainer=self.trainer,
                # Ranks that train together would have to agree on when to write one.
                checkpoint=Checkpoint(path, key) if self.joint is None else None,
                loggers=loggers,
                labels_folder=RunFolder(self.output).labels,
                before_fit=before_fit,
            )
            outcome = evaluate_student(
                self.training, self.data, self.teacher, student, seed=seed, run=run
            )
            result = self._result(student, cell, config, outcome)
            if alone:
                write_result(RunFolder(self.output).results, result)
        finally:
            finish(loggers, result, SetFolder(self.folder).sheet)
        return result

    def _result(
        self, student: Student, cell: Cell, config: dict[str, Any], outcome: Outcome
    ) -> Result:
        teacher = None
        if self.teacher is not None:
            teacher = {
                "arch": self.teacher.arch,
                "fingerprint": self.teacher.fingerprint,
                **self.teacher_accuracies,
            }
        distilled = {
            "fingerprint": self.training.fingerprint,
            "images": len(self.distilled),
            "decoded_images": len(self.training),
            "bytes": self.distilled.image_bytes,
            "stored_bytes": self.distilled.stored_bytes,
            "uint8_bytes": self.distilled.uint8_bytes,
            "float_bytes": self.distilled.float_bytes,
            "effective_ipc": self.distilled.effective_ipc,
            "statistics": self.distilled.metadata.get("statistics", {}),
            "cost": self.distilled.metadata.get("cost", {}),
            "ingredients": self.distilled.metadata.get("ingredients", {}),
            **_knowledge(self.distilled.metadata),
            "provenance": self.distilled.metadata.get("provenance", {}),
        }
        return make_result(
            cell=cell,
            config=config,
            outcome=outcome,
            teacher=teacher,
            distilled=distilled,
            provenance=provenance(),
            warnings=[
                *self.warnings,
                *network_warnings(student, self.distilled, self.recipe, self.data),
                *student_warnings(outcome.top1_last, self.data),
            ],
            run=rerun_config(self.config),
        )


def _knowledge(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a set's method says that the set knows beyond its budget, where it says so."""
    return {"knowledge": metadata["knowledge"]} if "knowledge" in metadata else {}


def written_since(path: Path, moment: float) -> bool:
    """Say whether a file was written since a moment.

    Args:
        path: Any.
        moment: As ``time.time()`` gave it.
    """
    try:
        return path.stat().st_mtime >= moment - 1
    except OSError:
        return False
