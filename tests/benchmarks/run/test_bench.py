import ast
from pathlib import Path

import yaml

from benchmarks.cli import main

ROOT = Path(__file__).parents[3]
TINY = ROOT / "tests" / "configs" / "tiny.yaml"


def test_a_rerun_that_fails_is_counted_though_an_older_result_is_kept(
    tmp_path, monkeypatch, capsys
):
    config = tmp_path / "random.yaml"
    content = {
        "extends": [str(TINY)],
        "data": {"class_path": "Digits", "init_args": {"limit_per_class": 12}},
        "model": {"class_path": "RandomSelection", "init_args": {"ipc": 2}},
        "recipe": {"name": "hard", "overrides": {"epochs": 1}},
        "seeds": [0, 1],
    }
    config.write_text(yaml.safe_dump(content))
    fit = ["fit", "--config", str(config), "--output", str(tmp_path / "runs"), "--force", "true"]
    assert main(fit) == 0
    assert len(list((tmp_path / "runs" / "results").glob("*.json"))) == 2

    def fail(*args, seed, **_):
        if seed == 1:
            raise MemoryError("no room")
        return real(*args, seed=seed, **_)

    from benchmarks.run import cells

    real = cells.evaluate_student
    monkeypatch.setattr(cells, "evaluate_student", fail)
    capsys.readouterr()
    assert main(fit) == 2
    told = capsys.readouterr().err
    assert "1 of 2 students failed (1 of them keep the result of an earlier run)" in told
    assert main(fit[:-2]) == 0  # nothing failed in this run: both results are reused
    results = sorted((tmp_path / "runs" / "results").glob("*.json"))
    results[0].unlink()
    results[1].unlink()
    assert main(fit[:-2]) == 2
    assert "1 of 2 students failed; see" in capsys.readouterr().err


def test_the_dataset_is_set_up_in_one_place():
    """What is handed on is set up: nobody behind has to ask, or to set up again what a wrapper changed.

    `check` alone has no run behind it: its setup is what it checks.
    """
    calls = [
        f"{path.relative_to(ROOT)}: {ast.unparse(node)}"
        for package in ("ddoq", "baselines", "benchmarks")
        for path in (ROOT / package).rglob("*.py")
        if path.parent.name != "data"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "setup"
    ]
    assert (
        sorted(calls)
        == [
            "benchmarks/commands/check.py: module.setup()",
            "benchmarks/run/bench.py: self.data.setup()",
            "benchmarks/run/graph_bench.py: self.data.setup()",  # the same for graphs
            "benchmarks/transfer/protocol.py: target.setup()",  # further datasets, beside that of the run
        ]
    )
