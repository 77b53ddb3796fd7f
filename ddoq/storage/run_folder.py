"""The names of all that lies in an output: where caches, sets, results and logs of a run are."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar


@dataclass(frozen=True)
class SetFolder:
    """The folder of a distilled set, in an output or anywhere else.

    Attributes:
        path: The folder.
    """

    path: Path

    TENSORS: ClassVar[str] = "distilled.safetensors"
    RECORD: ClassVar[str] = "metadata.json"
    SHEET: ClassVar[str] = "images.png"
    CONFIG: ClassVar[str] = "config.json"

    @property
    def tensors(self) -> Path:
        """Images, labels and weights; the folder is whole once this file is there."""
        return self.path / self.TENSORS

    @property
    def record(self) -> Path:
        """How the set was made."""
        return self.path / self.RECORD

    @property
    def sheet(self) -> Path:
        """A picture of the set."""
        return self.path / self.SHEET

    @property
    def config(self) -> Path:
        """The resolved configuration of the last run that used the set."""
        return self.path / self.CONFIG


@dataclass(frozen=True)
class DecodingFolder:
    """The folder of what was measured of a prior's decoding.

    Attributes:
        path: The folder.
    """

    path: Path

    @property
    def record(self) -> Path:
        """What was measured, of what."""
        return self.path / "decoding.json"

    @property
    def table(self) -> Path:
        """The same as Markdown."""
        return self.path / "decoding.md"

    @property
    def curve(self) -> Path:
        """Recognition over strength and guidance."""
        return self.path / "curve.png"

    @property
    def sheet(self) -> Path:
        """Real images beside decoded centroids."""
        return self.path / "images.png"


@dataclass(frozen=True)
class RunFolder:
    """The output folder of runs: every file and folder in it is named here and nowhere else.

    Priors, teachers and stored labels are folders whose inner files their own classes name.

    Attributes:
        root: The output folder.

    Example:
        >>> str(RunFolder(Path("runs")).shard("0123", "class-0001"))
        'runs/shards/0123/class-0001.safetensors'
    """

    root: Path

    RESULTS: ClassVar[str] = "results"
    FAILURES: ClassVar[str] = "failures"
    CURVES: ClassVar[str] = "curves"
    SMOKE: ClassVar[str] = "smoke"
    JOBS: ClassVar[str] = "suite"
    _TRANSFER: ClassVar[str] = "transfer-"
    _GRAPHS: ClassVar[str] = "graphs-"
    _BOARDS: ClassVar[dict[str, str]] = {
        "markdown": "leaderboard.md",
        "csv": "leaderboard.csv",
        "transfer-csv": "transfer.csv",
        "graphs-csv": "graphs.csv",
        "html": "leaderboard.html",
    }

    @property
    def smoke(self) -> Path:
        """Output folder of smoke runs: no table of this output reads it."""
        return self.root if self.root.name == self.SMOKE else self.root / self.SMOKE

    def prior(self, name: str) -> Path:
        """Folder of a trained prior, or of its autoencoder alone."""
        return self.root / "priors" / name

    def teacher(self, name: str) -> Path:
        """Folder of a teacher."""
        return self.root / "teachers" / name

    def latents(self, key: str) -> Path:
        """Folder of the latents of one dataset under one encoder."""
        return self.root / "latents" / key

    def class_latents(self, key: str, label: int) -> Path:
        """File of the latents of a class."""
        return self.latents(key) / f"class-{label:04d}.safetensors"

    def latents_record(self, key: str) -> Path:
        """File that says what latents are of."""
        return self.latents(key) / "latents.json"

    def shards(self, key: str) -> Path:
        """Folder of the shards that are made alike."""
        return self.root / "shards" / key

    def shard(self, key: str, item: str) -> Path:
        """File of the shard of a work item."""
        return self.shards(key) / f"{item}.safetensors"

    def checkpoint(self, key: str, item: str) -> Path:
        """File of the checkpoint of a work item, as long as its shard is not written."""
        return self.shards(key) / f"{item}.checkpoint"

    def shards_lock(self, key: str) -> Path:
        """File that the process that makes shards holds a lock on."""
        return self.shards(key).with_name(f".{key}.lock")

    def ingredient(self, name: str) -> Path:
        """Folder of what a method needs beyond a prior and a teacher."""
        return self.root / "ingredients" / name

    def distilled(self, name: str) -> SetFolder:
        """Folder of a distilled set."""
        return SetFolder(self.root / "distilled" / name)

    def decoding(self, name: str) -> DecodingFolder:
        """Folder of what was measured of a prior's decoding."""
        return DecodingFolder(self.root / "decoding" / name)

    def decoding_lock(self, name: str) -> Path:
        """File that the process that measures it holds a lock on."""
        return self.root / "decoding" / f".{name}.lock"

    def samples(self, key: str) -> Path:
        """File of images that a prior drew from noise."""
        return self.root / "decoding" / "samples" / f"{key}.safetensors"

    @property
    def labels(self) -> Path:
        """Folder of all stored labels; each description of them has a folder in it."""
        return self.root / "labels"

    @property
    def results(self) -> Path:
        """Folder of the results, a file a cell."""
        return self.root / self.RESULTS

    @property
    def failures(self) -> Path:
        """Folder of the cells that ended in an error, a file each."""
        return self.root / self.FAILURES

    def result(self, config_hash: str) -> Path:
        """File of the result of a cell."""
        return self.results / f"{config_hash}.json"

    @property
    def students(self) -> Path:
        """Folder of the logs of students' trainings, a folder each, with :attr:`CURVES` in it."""
        return self.root / "students"

    def student_checkpoint(self, config_hash: str) -> Path:
        """File of the checkpoint of a student, as long as its training goes on."""
        return self.students / f".{config_hash}.checkpoint"

    def student_lock(self, config_hash: str) -> Path:
        """File that the process that trains a student holds a lock on."""
        return self.students / f".{config_hash}.lock"

    def transfer(self, config_hash: str) -> Path:
        """File of the result of a transfer, apart from those of classification."""
        return self._transfers / f"{self._TRANSFER}{config_hash}.json"

    def transfer_network(self, key: str) -> Path:
        """File of a network that was pre-trained, for all targets."""
        return self._transfers / f"pretrained-{key}.safetensors"

    def transfer_checkpoint(self, key: str) -> Path:
        """File of the checkpoint of a training for it, as long as that goes on."""
        return self._transfers / f".{key}.checkpoint"

    def transfer_lock(self, key: str) -> Path:
        """File that the process that works on it holds a lock on."""
        return self._transfers / f".{key}.lock"

    @property
    def _transfers(self) -> Path:
        return self.root / "transfer"

    @classmethod
    def is_transfer(cls, path: Path) -> bool:
        """Say whether a file is named as the result of a transfer is.

        Example:
            >>> RunFolder.is_transfer(RunFolder(Path("runs")).transfer("0123456789abcdef"))
            True
        """
        return re.fullmatch(rf"{cls._TRANSFER}[0-9a-f]{{16}}\.json", path.name) is not None

    def graph_result(self, config_hash: str) -> Path:
        """File of the result of a student of graphs, apart from those of images."""
        return self.root / "graphs" / f"{self._GRAPHS}{config_hash}.json"

    def graph_checkpoint(self, config_hash: str) -> Path:
        """File of the checkpoint of such a student, as long as its training goes on."""
        return self.graph_result(config_hash).with_name(f".{config_hash}.checkpoint")

    def graph_lock(self, config_hash: str) -> Path:
        """File that the process that trains it holds a lock on."""
        return self.graph_result(config_hash).with_name(f".{config_hash}.lock")

    @classmethod
    def is_graph_result(cls, path: Path) -> bool:
        """Say whether a file is named as the result of a student of graphs is.

        Example:
            >>> RunFolder.is_graph_result(RunFolder(Path("runs")).graph_result("0123456789abcdef"))
            True
        """
        return re.fullmatch(rf"{cls._GRAPHS}[0-9a-f]{{16}}\.json", path.name) is not None

    def theory(self, key: str) -> Path:
        """Folder of a study of the theory: its record, its report and its cells."""
        return self.root / "theory" / key

    def theory_record(self, folder: Path) -> Path:
        """File of the record of a study."""
        return folder / "record.json"

    def theory_report(self, folder: Path) -> Path:
        """File of the report of a study."""
        return folder / "report.md"

    def theory_cell(self, folder: Path, seed: int, quantizer: str, ipc: int) -> Path:
        """File of what was measured of one quantiser."""
        return folder / "cells" / f"{seed}-{quantizer}-{ipc}.json"

    @property
    def jobs(self) -> Path:
        """Folder of what the jobs of suites report and print."""
        return self.root / self.JOBS

    def job_report(self, key: str) -> Path:
        """File in which a job of a suite lists what it made."""
        return self.jobs / f"{key}.json"

    def job_log(self, key: str) -> Path:
        """File with what a job of a suite printed."""
        return self.jobs / f"{key}.log"

    def job_lock(self, key: str) -> Path:
        """File that the suite that runs a job holds a lock on."""
        return self.jobs / f".{key}.lock"

    def board(self, suite: str) -> Path:
        """Folder of the tables of a suite and of its report.

        Example:
            >>> str(RunFolder(Path("runs")).board("a suite"))
            'runs/leaderboards/a_suite'
        """
        return self.root / "leaderboards" / _slug(suite)

    def board_files(self, suite: str) -> dict[str, Path]:
        """Files of the tables of a suite, by their kind."""
        return {kind: self.board(suite) / name for kind, name in self._BOARDS.items()}

    def board_report(self, suite: str) -> Path:
        """File of the report of a suite."""
        return self.board(suite) / "report.md"

    def tracked(self, job_type: str, name: str) -> Path:
        """Folder of what W&B gets beside students: ``distill`` or ``leaderboard``."""
        return self.root / "wandb" / job_type / _slug(name)

    def tracked_mark(self, job_type: str, name: str) -> Path:
        """File that says what W&B got; its own folders may be deleted once they were sent."""
        return self.tracked(job_type, name) / "logged.json"

    def tracked_lock(self, job_type: str, name: str) -> Path:
        """File that the process that gives W&B something holds a lock on."""
        return self.tracked(job_type, name) / ".lock"

    def ranks(self, token: str) -> Path:
        """File through which the ranks of one run meet."""
        return self.root / f".ranks-{token}"


def _slug(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name)
