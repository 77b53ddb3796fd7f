"""The command `ddoq-bench verify`: derives a result anew, in a folder of its own, and says what differs."""

import json
import math
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tabulate import tabulate

from benchmarks.commands.options import CommandParser
from benchmarks.configuration.options import split
from benchmarks.results.files import read_result
from benchmarks.results.graphs import GRAPHS, GraphRecord
from benchmarks.results.kinds import kind_of
from benchmarks.results.records import Result
from benchmarks.results.rerun import places_left_out
from benchmarks.run.verification import (
    TOLERANCE,
    Stage,
    compare_choices,
    compare_data,
    compare_results,
    compare_surroundings,
    is_same,
)
from ddoq.errors import UserError
from ddoq.storage.files import read_json, write_json
from ddoq.storage.fingerprints import plain

if TYPE_CHECKING:  # `--help` must not wait for torch
    from benchmarks.run.bench import Bench
    from ddoq.data import ImageDataModule

_OWN = ("--output", "--reuse", "--tolerance", "-h", "--help")
_MARK = "verified.json"  # in an output of this command: which result it is for
_CONFIG = "verified-config.json"
_REUSED = ("priors", "teachers", "ingredients")


def _parser(name: str) -> CommandParser:
    parser = CommandParser(
        name,
        "Derive one result anew from its stored configuration, in a folder of its own, and say what differs. Further "
        "options (--config C, --data.init_args.root DIR, ...) are read after that configuration; results of older "
        "versions hold none and need them.",
        "Exit status: 0 the same (the same bits on the same machine with the same versions, else accuracies within the "
        "tolerance), 1 something differs, 2 a mistake in the arguments, or a file that lacks what is needed.",
    )
    parser.add_argument("result", type=Path, metavar="RESULT", help="a result file")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="an empty folder to work in, kept at the end, in which the same command goes on; a temporary one where omitted",
    )
    parser.add_argument(
        "--reuse",
        type=Path,
        metavar="RUNS",
        help="take trained priors, teachers and ingredients from copies of those in this output; else they are trained anew",
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        default=TOLERANCE,
        metavar="SHARE",
        help="greatest difference of an accuracy on another machine or with other versions (default: %(default)s, three "
        "points, about twice the usual standard deviation over seeds)",
    )
    return parser


def run(name: str, arguments: list[str]) -> int:
    """Run ``ddoq-bench verify``.

    Args:
        name: The command.
        arguments: What follows it.

    Returns:
        0 if the result came out again, 1 if something differs.

    Raises:
        UserError: For a mistake in the arguments, or a result that lacks what is needed.
    """
    own, further = _split(arguments)
    options = _parser(name).parse_args(own)
    if not (math.isfinite(options.tolerance) and 0 <= options.tolerance <= 1):
        raise UserError(f"--tolerance must be a share from 0 to 1, not {options.tolerance}.")
    result = _read(options.result)
    with _folder(options.output, result) as folder:
        _reuse(options.reuse, folder)
        configured = _configured(options.result, result, folder, further)
        if isinstance(result, GraphRecord):
            stages = _verify_graphs(name, result, configured, options.tolerance)
        else:
            stages = _verify(name, result, configured, options.tolerance)
    print(tabulate([vars(stage) for stage in stages], "keys", "pipe", disable_numparse=True))
    same = is_same(stages)
    print(f"\n{options.result}: {'it came out again' if same else 'it did NOT come out again'}.")
    return 0 if same else 1


def _split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split the command's own options from those of the configuration."""
    own: list[str] = []
    further: list[str] = []
    for flag, value in split(arguments):
        target = own if not flag or flag in _OWN else further
        if flag in ("-h", "--help"):
            return [flag], []
        target += [value] if not flag else [flag, value]
    return own, further


def _read(path: Path) -> Result | GraphRecord:
    kind = kind_of(path)
    if kind is GRAPHS:
        return GRAPHS.read(path)
    if kind is not None:
        raise UserError(
            f"{path} is a result of {kind.what}, which this command cannot derive: run `ddoq-bench fit` with the same "
            "configuration and another --output, and compare the two files."
        )
    result = read_result(path)
    _check_ranks(path, result)
    return result


def _check_ranks(path: Path, result: Result) -> None:
    if result.config.get("evaluation"):
        ranks = result.config["evaluation"].get("world_size")
        raise UserError(
            f"{path}: {ranks} ranks trained this student together, and this command trains on one: run `ddoq-bench fit` on "
            "as many ranks with the same configuration and another --output, and compare the two files."
        )


@contextmanager
def _folder(output: Path | None, result: Result | GraphRecord) -> Iterator[Path]:
    """Give a folder to work in in which nothing of another run can be overwritten, or taken for what is derived."""
    if output is None:
        with tempfile.TemporaryDirectory(prefix="ddoq-verify-") as temporary:
            yield Path(temporary)
        return
    mark = output / _MARK
    if output.exists() and not output.is_dir():
        raise UserError(f"--output {output} is no folder.")
    used = output.is_dir() and any(output.iterdir())
    if used and not (mark.is_file() and read_json(mark) == {"result": result.config_hash}):
        raise UserError(
            f"--output {output} is not empty, and this command overwrites nothing: give a new folder, or leave it out."
        )
    write_json(mark, {"result": result.config_hash})
    yield output


def _reuse(source: Path | None, folder: Path) -> None:
    """Copy trained parts of another output, which so stays as it is."""
    if source is None:
        return
    parts = [part for part in _REUSED if (source / part).is_dir()]
    if not parts:
        raise UserError(
            f"--reuse {source} has no {', no '.join(_REUSED)}: it is no output of a run."
        )
    for part in parts:
        unfinished = shutil.ignore_patterns(".*")  # checkpoints and locks of that run
        shutil.copytree(source / part, folder / part, ignore=unfinished, dirs_exist_ok=True)


def _configured(
    path: Path, result: Result | GraphRecord, folder: Path, further: Sequence[str]
) -> list[str]:
    """Return the options of the run that derives a result."""
    arguments: list[str] = []
    if result.run is not None:
        stored = json.loads(json.dumps(result.run))
        _check_places(path, stored, further)
        write_json(folder / _CONFIG, stored)
        arguments += ["--config", str(folder / _CONFIG)]
    elif not any(flag in ("--config", "-c") for flag, _ in split(further)):
        raise UserError(
            f"{path} holds no configuration of its run, since it was written by an older version: give the one that it was "
            "made with, e.g. --config configs/datasets/digits.yaml --config configs/methods/ddoq.yaml."
        )
    student = {**(result.config.get("student") or {}), "name": result.cell.student}
    return [
        *arguments,
        *further,
        f"--students={json.dumps([student])}",
        f"--seeds={json.dumps([result.cell.seed])}",
        f"--output={folder}",
        "--wandb.mode=disabled",
    ]


def _check_places(path: Path, stored: dict[str, Any], further: Sequence[str]) -> None:
    """Refuse a configuration whose places nobody gives; take out those that are given."""
    given = {flag.lstrip("-") for flag, _ in split(further)}
    files = {"config", "c"} & given
    for place in places_left_out(stored):
        if not files and not {place, place.replace(".init_args", "")} & given:
            raise UserError(
                f"{path} does not say where {place} was, since results name no places: give --{place}=PATH."
            )
        _remove(stored, place.split("."))


def _remove(stored: Any, keys: Sequence[str]) -> None:
    """Take a value out of nested mappings, so that an option or a default stands for it."""
    for key in keys[:-1]:
        stored = stored[int(key)] if isinstance(stored, list) else stored[key]
    if isinstance(stored, dict):
        del stored[keys[-1]]


def _verify(name: str, result: Result, arguments: list[str], tolerance: float) -> list[Stage]:
    """Compare stage by stage; what differs before a training saves it."""
    from benchmarks.commands.configured import configure  # imports torch

    bench = configure(name, arguments).bench()
    stages = compare_data(result, plain(_tested(bench, result).describe()))
    stages += _choices(bench, result)
    if not is_same(stages):
        return stages
    (derived,) = bench.evaluate()
    surroundings = compare_surroundings(result.provenance, derived.provenance)
    exact = all(stage.verdict == "same" for stage in surroundings)
    return [
        *stages,
        *surroundings,
        *compare_results(result, derived, exact=exact, tolerance=tolerance),
    ]


def _verify_graphs(
    name: str, record: GraphRecord, arguments: list[str], tolerance: float
) -> list[Stage]:
    """Do as :func:`_verify` with a result of graphs."""
    from benchmarks.commands.configured import configure  # imports torch
    from benchmarks.run.graph_verification import compare_graph_choices, compare_graph_results
    from ddoq.distillation.tables import at_budget

    cli = configure(name, arguments)
    if not cli.on_graphs:
        raise UserError(f"This is a result of graphs, but {cli.datamodule.name} holds none.")
    bench = cli.bench_of_graphs()
    method, settings = None, None
    if bench.distilled is None and bench.distiller is not None:
        chosen = at_budget(bench.distiller, bench.dataset.num_classes)
        method, settings = chosen.method, plain(chosen.settings())
    described, protocol = plain(bench.dataset.describe()), plain(bench.evaluation.graphs.numbers())
    stages = compare_graph_choices(record, described, method, settings, protocol)
    if not is_same(stages):
        return stages
    (derived,) = bench.evaluate()
    surroundings = compare_surroundings(record.provenance, derived.provenance)
    # On CUDA sums over neighbours are added up in no fixed order.
    exact = bench.trainer.strategy.root_device.type == "cpu"
    exact = exact and all(stage.verdict == "same" for stage in surroundings)
    results = compare_graph_results(record, derived, exact=exact, tolerance=tolerance)
    return [*stages, *surroundings, *results]


def _tested(bench: "Bench", result: Result) -> "ImageDataModule":
    """Return the dataset with its test images as the recipe shows them."""
    from benchmarks.students.recipes import OWN, load_recipe

    data = bench.dataset
    if bench.recipe.name == OWN:  # known with the set
        recorded = result.config.get("data") or {}
        return data.with_test_resize(recorded.get("test_resize", data.image_size))
    recipe = load_recipe(bench.recipe.name, bench.recipe.overrides)
    return data.with_test_resize(recipe.test_side(data.image_size))


def _choices(bench: "Bench", result: Result) -> list[Stage]:
    from benchmarks.students.recipes import OWN, load_recipe
    from ddoq.distillation.tables import at_budget

    recipe = result.config.get("recipe") or {}
    if bench.recipe.name != OWN:  # that one is known with the set
        recipe = plain(load_recipe(bench.recipe.name, bench.recipe.overrides).config())
    if bench.distilled is not None or bench.distiller is None:
        return compare_choices(result, None, None, recipe)
    method = at_budget(bench.distiller, bench.dataset.num_classes)
    return compare_choices(result, method.method, plain(method.settings()), recipe)
