"""One process and two gloo processes must make the same shards and report the same accuracies."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import warm_start

from benchmarks.cli import main
from benchmarks.results.transfers import TRANSFERS
from ddoq.distillation.shard import Shard

TINY = Path(__file__).parent.parent / "configs" / "tiny.yaml"
MODELS = {
    "ddoq": {"class_path": "DDOQ", "init_args": {"ipc": 2}},
    "sre2l": {"class_path": "SRe2L", "init_args": {"ipc": 3, "iterations": 3, "jitter": 2}},
    "random": {"class_path": "RandomSelection", "init_args": {"ipc": 2}},
    "krr_st": {
        "class_path": "KRRST",
        "init_args": {
            "ipc": 1,
            "arch": "convnet2-w4-bn",
            "iterations": 3,
            "batch_real": 8,
            "pool_size": 2,
            "pool_age": 3,
            "hflip": False,
            "target_model": {
                "class_path": "BarlowTwins",
                "init_args": {
                    "arch": "convnet2-w4-bn",
                    "stem": None,
                    "epochs": 1,
                    "batch_size": 30,
                    "hidden": 8,
                },
            },
        },
    },
}
TWO = ["--trainer.devices=2", "--trainer.strategy=ddp"]


def command(name: str, model: str, output: Path) -> list[str]:
    config = output / "config.yaml"
    output.mkdir(parents=True, exist_ok=True)
    data = {"class_path": "Digits", "init_args": {"limit_per_class": 6, "test_limit_per_class": 7}}
    recipe = {"name": "unified", "overrides": {"epochs": 2}}
    students = [{"name": "a", "arch": "convnet2-w8"}, {"name": "b", "arch": "convnet2-w16"}]
    content = {"data": data, "model": MODELS[model], "recipe": recipe, "students": students}
    config.write_text(json.dumps(content))
    return [name, "--output", str(output), "--config", str(TINY), "--config", str(config)]


def on_one(name: str, model: str, output: Path) -> None:
    """Run a command here: to import torch and its kin again takes longer than the work."""
    assert main(command(name, model, output)) == 0


def on_two(name: str, model: str, output: Path, *extra: str, cold: bool = False) -> str:
    """Run a command in processes of its own; ``cold`` ones import torch and its kin as those of a user do."""
    arguments = [sys.executable, "-m", "benchmarks", *command(name, model, output), *TWO, *extra]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if cold:
        done = subprocess.run(
            arguments, capture_output=True, text=True, check=False, timeout=240, env=environment
        )
    else:
        done = warm_start.run(arguments, environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def shards(output: Path) -> dict[str, Shard]:
    return {p.stem: Shard.load(p)[0] for p in sorted((output / "shards").rglob("*.safetensors"))}


def rows(output: Path) -> dict[str, dict]:
    found = [json.loads(path.read_text()) for path in (output / "results").glob("*.json")]
    return {item["cell"]["student"]: item["metrics"] for item in found}


def check_same_bits(one: dict[str, Shard], two: dict[str, Shard]) -> None:
    assert one
    assert one.keys() == two.keys()
    for name, shard in one.items():
        assert torch.equal(shard.images, two[name].images)
        assert torch.equal(shard.labels, two[name].labels)
        assert shard.extras.keys() == two[name].extras.keys()
        for key, tensor in shard.extras.items():
            assert torch.equal(tensor, two[name].extras[key])


@pytest.mark.parametrize("model", ["ddoq", "sre2l"])
def test_shards_are_the_same_bits(model, tmp_path):
    on_one("distill", model, tmp_path / "one")
    on_two("distill", model, tmp_path / "two")
    check_same_bits(shards(tmp_path / "one"), shards(tmp_path / "two"))


def test_two_ranks_make_the_set_and_report_the_accuracies_of_one_and_resume(tmp_path):
    on_one("fit", "random", tmp_path / "one")
    printed = on_two("fit", "random", tmp_path / "two", cold=True)
    check_same_bits(shards(tmp_path / "one"), shards(tmp_path / "two"))
    one, two = rows(tmp_path / "one"), rows(tmp_path / "two")
    assert one.keys() == {"a", "b"}
    for student in one:
        for metric in ("top1_last", "top1_best", "top5_last", "top5_best"):
            assert one[student][metric] == two[student][metric]
    assert printed.count("top-1 last") == 1
    # A given set: no distillation has started the other process.
    (folder,) = (tmp_path / "two" / "distilled").iterdir()
    on_two("evaluate", "random", tmp_path / "given", "--distilled", str(folder))
    given = rows(tmp_path / "given")
    assert {name: row["top1_last"] for name, row in given.items()} == {
        name: row["top1_last"] for name, row in one.items()
    }
    # Fewer missing items than ranks: one shard is redone, the other rank gets nothing to do.
    kept = shards(tmp_path / "two")
    for path in (tmp_path / "two" / "distilled").rglob("distilled.safetensors"):
        path.unlink()
    next((tmp_path / "two" / "shards").rglob("class-0003.safetensors")).unlink()
    on_two("distill", "random", tmp_path / "two")
    again = shards(tmp_path / "two")
    assert all(torch.equal(kept[name].images, again[name].images) for name in kept)


@pytest.mark.slow
def test_two_ranks_share_a_transfer(tmp_path):
    short = ("--evaluation.transfer.pretrain_epochs=2", "--evaluation.transfer.iterations=2")
    assert main([*command("fit", "krr_st", tmp_path / "one"), *short]) == 0
    on_two("fit", "krr_st", tmp_path / "two", *short)
    one, two = (TRANSFERS.read_all(tmp_path / name)[0] for name in ("one", "two"))
    assert len(one) == len(two) == 6  # two students from three starts
    for first, second in zip(one, two, strict=True):
        assert first.cell == second.cell
        assert first.distilled.get("fingerprint") == second.distilled.get("fingerprint")
        assert (first.probe_top1, first.tuned_top1) == (second.probe_top1, second.tuned_top1)
