"""A suite is a grid of cells: list the commands that its file stands for."""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser

from benchmarks.configuration.layers import layers, read_layer, resolve
from benchmarks.configuration.options import split
from benchmarks.configuration.shipped import describe_origins, locate
from benchmarks.suites.entries import Entry, list_entries
from benchmarks.suites.file import (
    AFTER_DISTILLATION,
    DISTILL_SEED,
    OWN,
    check_seeds,
    check_students,
    label_of,
    read_suite,
)
from benchmarks.tracking.loggers import WandbOptions
from ddoq.errors import UserError
from ddoq.storage.fingerprints import hash_config
from ddoq.storage.run_folder import RunFolder


@dataclass(frozen=True)
class Job:
    """One process of a suite.

    Attributes:
        name: What progress lines call it.
        command: ``distill`` or ``fit``.
        arguments: Its options.
        contents: Hash of the files that the options name: a changed configuration is another job.
        defaults: Options that a configuration and ``arguments`` overrule; they change no number.
        needs: Key of the job that must not have failed before this one, if any.
    """

    name: str
    command: str
    arguments: tuple[str, ...]
    contents: str
    defaults: tuple[str, ...] = ()
    needs: str | None = None

    @property
    def key(self) -> str:
        """Hash of all that decides what the process makes."""
        return hash_config([self.command, self.arguments, self.contents])


@dataclass(frozen=True)
class Plan:
    """What a suite runs.

    Attributes:
        sets: Distillations, each once however many cells need it.
        cells: One student and one seed each.
        output: Root of caches and results.
        name: What the suite is called; the group of its W&B runs.
        wandb: The W&B options of its processes, each once.
        against: Methods that a report compares all others with; no report where there is none.
        origins: What the user is told of where its files come from, a line each.
    """

    sets: list[Job]
    cells: list[Job]
    output: Path
    name: str
    wandb: list[WandbOptions]
    against: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()


def _last(files: list[Path], key: str) -> tuple[Any, Path | None]:
    """Find what a configuration says under a top-level key, and in which file; later files win."""
    value, where = None, None
    for file in files:
        content = read_layer(file)
        if key in content:
            value, where = content[key], file
    return value, where


def _options(values: Mapping[str, Any]) -> list[str]:
    """Write grid values as options, e.g. ``--model.init_args.ipc=10``."""
    return [f"--{k}={v if isinstance(v, str) else json.dumps(v)}" for k, v in values.items()]


def _pairs(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Split options as typed into keys and values."""
    for flag, value in split(arguments):
        if not flag:
            raise UserError(f"{value!r} is no option. Further options are --KEY=VALUE.")
        yield "config" if flag == "-c" else flag.lstrip("-"), value


def wandb_options(arguments: Sequence[str]) -> WandbOptions:
    """Find the W&B options of a process without starting it.

    Args:
        arguments: Its options; configurations among them are read.

    Returns:
        What the process will use.

    Raises:
        UserError: If they are wrong, or a configuration cannot be read.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--wandb", type=WandbOptions, default=WandbOptions())
    given = []
    for key, value in _pairs(arguments):
        if key == "config":
            for file in resolve(Path(value)):
                content = read_layer(file)
                given += [f"--wandb={json.dumps(content['wandb'])}"] if "wandb" in content else []
        elif key.partition(".")[0] == "wandb":
            given.append(f"--{key}={value}")
    try:
        options: WandbOptions = parser.instantiate(parser.parse_args(given)).wandb
    except ArgumentError as error:
        raise UserError(f"The options `wandb` are wrong: {error}") from None
    return options


def suite_name(path: Path, content: Mapping[str, Any]) -> str:
    """Name a suite: its ``name``, or its file's with a hash of what it compares.

    Students and seeds are no part of the hash: whoever adds one stays in the same group.

    Args:
        path: The suite file.
        content: What it holds.
    """
    if "name" in content:
        return str(content["name"])
    compared: Any = [content.get("configs"), content.get("grid", {})]
    if "methods" in content:
        keys = ("configs", "datasets", "methods", "scales", "ipc", "grid")
        compared = {key: content[key] for key in keys if key in content}
    return f"{path.stem}-{hash_config(compared)[:6]}"


def _split_options(extra: Sequence[str], varied: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Split the options of the command line into configurations and the rest; refuse what would be lost.

    Args:
        extra: The options.
        varied: Keys that the suite sets.
    """
    configs, rest = [], []
    for key, value in _pairs(extra):
        if key == "config":
            configs.append(Path(value))
            continue
        if key.partition(".")[0] in OWN:
            raise UserError(f"--{key} is no option of a suite; {OWN[key.partition('.')[0]]}.")
        for other in varied:
            if f"{other}.".startswith(f"{key}.") or f"{key}.".startswith(f"{other}."):
                raise UserError(
                    f"--{key} would overrule {other!r} in the suite's grid: change it there."
                )
        rest.append(f"--{key}={value}")
    return configs, rest


def _title(stem: str, values: Mapping[str, Any]) -> str:
    shown = (
        f"{key.rpartition('.')[2]}={value if isinstance(value, str) else json.dumps(value)}"
        for key, value in values.items()
    )
    return " ".join([stem, *shown])


def plan_suite(path: Path, output: Path | None = None, extra: tuple[str, ...] = ()) -> Plan:
    """List what a suite runs, in order.

    Combinations that differ only in what comes after distillation (recipe, W&B) share one distillation. With
    ``paired_seeds`` a student of seed s learns from the set that was distilled with seed s. With ``--smoke`` among the
    further options there is one cell a combination, whatever the budgets, students and seeds.

    Args:
        path: The suite file.
        output: Root of caches and results, instead of the file's.
        extra: Options added to every process; a ``--config`` among them is read after the suite's.

    Returns:
        The plan.

    Raises:
        UserError: If the suite or a configuration cannot be read, names no student, or if an option is the suite's own.
    """
    path = locate(path)
    content = read_suite(path)
    entries = list_entries(path, content)
    name = suite_name(path, content)
    paired = bool(content.get("paired_seeds"))
    varied = [key for entry in entries for values in entry.values for key in values]
    further, rest = _split_options(extra, [*varied, DISTILL_SEED] if paired else varied)
    root = output or Path(content.get("output", "runs"))
    smoke = any(option.startswith("--smoke=") and option != "--smoke=false" for option in rest)
    if smoke:
        root, entries = RunFolder(root).smoke, [entry.without_budgets() for entry in entries]
        rest.append(
            "--wandb.mode=disabled"
        )  # as the processes do: no table of a smoke run is logged
    rest += ["--output", str(root)]
    planner = _Planner((f"--wandb.group={name}",), tuple(further), tuple(rest), paired)
    read = [path]
    for entry in entries:
        files = layers([*entry.files, *further])
        read += files
        students, seeds = _who(path, entry, files, content)
        if smoke:
            students, seeds = students[:1], seeds[:1]
        planner.add(entry, files, students, seeds)
    return Plan(
        list(planner.sets.values()),
        list(planner.cells.values()),
        root,
        name,
        planner.wandb,
        tuple(content.get("against", ())),
        tuple(describe_origins(read)),
    )


@dataclass
class _Planner:
    """Collects the jobs of entries, each once.

    Attributes:
        defaults: Options of every process that change no number.
        further: Configurations that every process reads after its own.
        rest: Options of every process, after its own.
        paired: Whether a set is distilled with the seed of its students.
        sets: Distillations by key.
        cells: Students' trainings by key.
        wandb: The W&B options of all processes, each once.
    """

    defaults: tuple[str, ...]
    further: tuple[Path, ...]
    rest: tuple[str, ...]
    paired: bool
    sets: dict[str, Job] = field(default_factory=dict)
    cells: dict[str, Job] = field(default_factory=dict)
    wandb: list[WandbOptions] = field(default_factory=list)
    _read: set[tuple[str, ...]] = field(default_factory=set)

    def add(
        self,
        entry: Entry,
        files: Sequence[Path],
        students: Sequence[Mapping[str, Any]],
        seeds: Sequence[int],
    ) -> None:
        """Add the jobs of an entry: its combinations, students and seeds."""
        contents = hash_config([file.read_text(encoding="utf-8") for file in files])
        named = tuple(
            part for file in (*entry.files, *self.further) for part in ("--config", str(file))
        )
        for values, seed in itertools.product(entry.values, seeds):
            whole = {**values, **({DISTILL_SEED: seed} if self.paired else {})}
            needs = self._add_set(entry.title, named, whole, contents)
            arguments = (*named, *_options(whole), *self.rest)
            self._add_wandb((*self.defaults, *arguments))
            for student in students:
                cell = Job(
                    f"{_title(entry.title, values)}: {label_of(student)}, seed {seed}",
                    "fit",
                    (
                        *arguments,
                        f"--students={json.dumps([student])}",
                        f"--seeds={json.dumps([seed])}",
                    ),
                    contents,
                    self.defaults,
                    needs,
                )
                self.cells.setdefault(cell.key, cell)

    def _add_wandb(self, arguments: Sequence[str]) -> None:
        """Add the W&B options of a process; files are read once for all processes that differ in other options."""
        kept = [(k, v) for k, v in _pairs(arguments) if k.partition(".")[0] in ("config", "wandb")]
        key = tuple(f"--{k}={v}" for k, v in kept)
        if key not in self._read:
            self._read.add(key)
            options = wandb_options(key)
            self.wandb += [options] if options not in self.wandb else []

    def _add_set(
        self, title: str, named: tuple[str, ...], whole: Mapping[str, Any], contents: str
    ) -> str:
        """Add the distillation behind some values, and return its key."""
        before = {
            key: value
            for key, value in whole.items()
            if key.partition(".")[0] not in AFTER_DISTILLATION
        }
        arguments = (*named, *_options(before), *self.rest)
        job = Job(f"{_title(title, before)}: distil", "distill", arguments, contents, self.defaults)
        self.sets.setdefault(job.key, job)
        return job.key


def _who(
    path: Path, entry: Entry, files: list[Path], content: Mapping[str, Any]
) -> tuple[list[Any], list[Any]]:
    """Find students and seeds: the suite's, or the configuration's."""
    config = entry.files[0]
    students, source = content.get("students"), path
    if not students:
        students, where = _last(files, "students")
        source = where or config
    if not students:
        raise UserError(f"{config} names no student; give `students` there or in {path}.")
    check_students(source, students)
    seeds, source = content.get("seeds"), path
    if not seeds:
        seeds, where = _last(files, "seeds")
        seeds, source = seeds or [0], where or config
    check_seeds(source, seeds)
    return students, seeds
