"""The command line with `evaluation.ranks: ddp`: rows, reuse, and what a failing rank does to the others."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import warm_start

from benchmarks.cli import main
from benchmarks.results.files import read_results
from benchmarks.tables.folding import fold

ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests" / "configs" / "tiny.yaml"
RANK_VARIABLES = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "RANK")
TWO = ["--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.accelerator=cpu"]
TOGETHER = [*TWO, "--evaluation.ranks=ddp"]
# A rank that fails before the training of `early`, and one that fails in the training of `late`.
BROKEN = """
import sys
import benchmarks.students.module as module
from benchmarks.cli import main

init, step = module.StudentModule.__init__, module.StudentModule.training_step
made = []

def broken_init(self, *args, **kwargs):
    import torch.distributed as dist
    made.append(self)
    self.number = len(made)
    if dist.is_initialized() and dist.get_rank() == 1 and len(made) == 1:
        raise RuntimeError("no room on this device")
    init(self, *args, **kwargs)

def broken_step(self, batch, batch_idx):
    if self.number == 3 and self.global_rank == RANK:
        raise RuntimeError("out of memory")
    return step(self, batch, batch_idx)

module.StudentModule.__init__, module.StudentModule.training_step = broken_init, broken_step
if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
"""


def arguments(folder: Path, students: list[str], *extra: str) -> list[str]:
    content = {
        "data": {
            "class_path": "Digits",
            "init_args": {"limit_per_class": 6, "test_limit_per_class": 7},
        },
        "model": {"class_path": "RandomSelection", "init_args": {"ipc": 2}},
        "recipe": {"name": "hard", "overrides": {"epochs": 2, "batch_size": 10}},
        "students": [
            {"name": name, "arch": f"convnet2-w{8 * number}"}
            for number, name in enumerate(students, 1)
        ],
    }
    config = folder / "config.yaml"
    config.write_text(json.dumps(content))
    layers = ["--config", str(TINY), "--config", str(config)]
    return ["fit", "--output", str(folder / "runs"), *layers, *extra]


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    variables = {key: value for key, value in os.environ.items() if key not in RANK_VARIABLES}
    variables |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return warm_start.run([sys.executable, *command], variables)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Run two students together, and then again."""
    folder = tmp_path_factory.mktemp("together")
    for name in ("first", "again"):
        done = run(["-m", "benchmarks", *arguments(folder, ["a", "b"], *TOGETHER)])
        assert done.returncode == 0, done.stdout + done.stderr
        (folder / f"{name}.txt").write_text(done.stdout)
        created = {r.cell.student: r.created for r in read_results(folder / "runs" / "results")[0]}
        (folder / f"{name}.json").write_text(json.dumps(created))
    return folder


def test_rows_say_how_many_ranks_and_are_reused(folder):
    results, problems = read_results(folder / "runs" / "results")
    assert problems == []
    assert {result.cell.student for result in results} == {"a", "b"}
    for result in results:
        assert result.cost["world_size"] == 2
        assert result.cost["global_batch"] == 10
        assert result.cost["sync_batchnorm"] is None  # the students have no batch normalisation
        assert result.config["evaluation"] == {"world_size": 2, "sync_batchnorm": True}
    first, again = (
        json.loads((folder / f"{name}.json").read_text()) for name in ("first", "again")
    )
    assert first == again  # the second run trained nobody
    assert (folder / "first.txt").read_text().count("top-1 last") == 1


def test_rows_stand_apart_from_those_of_one_device(folder):
    assert main(arguments(folder, ["a", "b"])) == 0
    results, _ = read_results(folder / "runs" / "results")
    alone = [result for result in results if result.cost["world_size"] == 1]
    assert len(results) == 4
    assert len(alone) == 2
    assert all(
        "evaluation" not in result.config for result in alone
    )  # their hashes are the old ones
    (table,) = fold(results)
    assert [len(row.results) for row in table.rows] == [2, 2]
    assert {"world_size=2" in row.label for row in table.rows} == {True, False}
    # Without dropout and batch normalisation both are the same training, but for rounding.
    for student in ("a", "b"):
        one, two = (
            next(r for r in results if r.cell.student == student and r.cost["world_size"] == size)
            for size in (1, 2)
        )
        assert two.metrics.curve[-1]["train_loss"] == pytest.approx(
            one.metrics.curve[-1]["train_loss"], rel=1e-3
        )


@pytest.mark.parametrize("rank", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_a_rank_that_fails_does_not_leave_the_others_waiting(rank, tmp_path):
    script = tmp_path / "broken.py"
    script.write_text(BROKEN.replace("RANK", str(rank)))
    started = time.monotonic()
    done = run([str(script), *arguments(tmp_path, ["early", "fine", "late", "never"], *TOGETHER)])
    assert done.returncode != 0
    assert time.monotonic() - started < 200  # the ranks' patience is days
    results, _ = read_results(tmp_path / "runs" / "results")
    assert [result.cell.student for result in results] == ["fine"]
    errors = {}
    for path in (tmp_path / "runs" / "failures").glob("*.json"):
        record = json.loads(path.read_text())
        errors[record["cell"]["student"]] = record["error"]
    assert errors.keys() == {"early", "late"}
    assert "Rank 1 of 2: no room on this device" in errors["early"]
    assert (
        "out of memory" in errors["late"]
    )  # the cause, not the closed connection of the other rank
    assert f"failed on rank {rank}: late, seed 0: out of memory" in done.stdout


def test_batch_norm_on_a_cpu_is_refused_before_anything_runs(tmp_path, capsys):
    students = ["--students", "[{name: bn, arch: convnet2-w8-bn}]"]
    assert main([*arguments(tmp_path, ["a"], *TOGETHER), *students]) == 2
    told = capsys.readouterr().err
    assert "Student 'bn' has batch normalisation" in told
    assert "set evaluation.sync_batchnorm to false" in told
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_student_that_diverges_fails_alone(tmp_path):
    """All ranks learn of it at the same step, so that the next student is trained as if nothing had been."""
    students = "[{name: wild, arch: convnet2-w8, lr: 1e30}, {name: tame, arch: convnet2-w8}]"
    done = run(["-m", "benchmarks", *arguments(tmp_path, ["a"], *TOGETHER), "--students", students])
    assert done.returncode == 2, done.stdout + done.stderr
    results, _ = read_results(tmp_path / "runs" / "results")
    assert [result.cell.student for result in results] == ["tame"]
    (path,) = (tmp_path / "runs" / "failures").glob("*.json")
    record = json.loads(path.read_text())
    assert record["cell"]["student"] == "wild"
    assert "The student diverged" in record["error"]
    assert "now 1e+30" in record["error"]
    assert "1 of 2 students failed" in done.stderr
