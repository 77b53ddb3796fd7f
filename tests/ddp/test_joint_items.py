"""Items that run in step give the same bits on one and on two gloo processes, also after a kill and a change of number."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import warm_start
from toy_methods import JointDescent, KilledError

from ddoq.distillation.shard import Shard

ROOT = Path(__file__).parents[2]
RANK_VARIABLES = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "RANK")
SCRIPT = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = [{root!r}, {root!r} + "/tests", {root!r} + "/tests/helpers"]
import lightning as L
import torch
from conftest import ColouredNoise
from ddoq.distillation.ranks import RankGroup, in_item_order
from toy_methods import ClassMeans, JointDescent, KilledError, MeanImages

def run(method, classes, folder):
    trainer = L.Trainer(
        accelerator="cpu", devices=2, strategy="ddp", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, inference_mode=False,
    )
    method.checkpoint_seconds = 0
    data = ColouredNoise(classes=classes)
    data.setup()
    method.attach(data)
    method.run(trainer, Path(folder))
    return trainer.global_rank

def exchange(rank):
    # Tensors of every kind, in different numbers, arrive as they were sent.
    kinds = [
        torch.tensor(True), torch.arange(7, dtype=torch.int16), torch.empty(0, 3),
        torch.full((3, 1), 1 / 3, dtype=torch.bfloat16), torch.tensor([[float("nan"), -0.0]]),
    ]
    ranks, cpu = RankGroup(rank, 2), torch.device("cpu")
    for count in range(6):
        gathered = in_item_order(ranks.all_gather([kinds[i] for i in ranks.share(count)], cpu))
        assert len(gathered) == count
        for one, other in zip(gathered, kinds):
            assert one.dtype == other.dtype and one.shape == other.shape
            assert one.reshape(-1).view(torch.uint8).tolist() == (
                other.reshape(-1).view(torch.uint8).tolist()
            )
    assert ranks.from_first(rank) == 0
    ranks.barrier()

if __name__ == "__main__":
    output = Path(sys.argv[1])
    if sys.argv[2] == "kill":
        method = JointDescent(2)
        method.kill_at = {{"class-0001": 3}}
        try:
            run(method, 3, output)
        except KilledError:
            os.kill(os.getpid(), signal.SIGKILL)
    else:
        rank = run(MeanImages(1, ClassMeans()), 3, output / "means")
        exchange(rank)
        run(JointDescent(2), 1, output / "one-class")
        run(JointDescent(2), 3, output / "whole")
        run(JointDescent(2), 3, output / "resumed")
"""


def on_two_ranks(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    script = folder / "run.py"
    script.write_text(SCRIPT.format(root=str(ROOT)))
    variables = {key: value for key, value in os.environ.items() if key not in RANK_VARIABLES}
    return warm_start.run(
        [sys.executable, str(script), *arguments], {**variables, "OMP_NUM_THREADS": "1"}
    )


def shards(output: Path) -> dict[str, Shard]:
    found = {p.stem: Shard.load(p)[0] for p in sorted((output / "shards").rglob("*.safetensors"))}
    assert found
    return found


def assert_same_bits(one: Path, other: Path) -> None:
    first, second = shards(one), shards(other)
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name].images, second[name].images)
        assert torch.equal(first[name].extras["pixels"], second[name].extras["pixels"])
    assert list(other.rglob("*.checkpoint")) == []


@pytest.fixture
def on_one_rank(coloured_noise, trainer):
    def run(output: Path, classes: int = 3, kill_at: dict[str, int] | None = None) -> JointDescent:
        method = JointDescent(2)
        method.checkpoint_seconds = 0
        method.kill_at = kill_at or {}
        method.attach(coloured_noise(classes=classes))
        method.run(trainer, output)
        return method

    return run


def test_two_ranks_and_resuming_what_one_began(on_one_rank, tmp_path):
    """Three items on two ranks are two and one; one item is one and none."""
    with pytest.raises(KilledError):
        on_one_rank(tmp_path / "two" / "resumed", kill_at={"class-0002": 4})
    done = on_two_ranks(tmp_path, str(tmp_path / "two"), "all")
    assert done.returncode == 0, done.stdout + done.stderr
    for name, classes in (("whole", 3), ("resumed", 3), ("one-class", 1)):
        on_one_rank(tmp_path / "one" / name, classes)
        assert_same_bits(tmp_path / "one" / name, tmp_path / "two" / name)
    # Both ranks prepared the ingredient, and one of them built it.
    assert len(list((tmp_path / "two" / "means").rglob("built-by-*"))) == 1


def test_one_rank_resumes_what_two_began(on_one_rank, tmp_path):
    done = on_two_ranks(tmp_path, str(tmp_path / "killed"), "kill")
    assert done.returncode != 0
    kept = sorted(path.name for path in (tmp_path / "killed").rglob("*.checkpoint"))
    assert kept == [f"class-{number:04d}.000000003.checkpoint" for number in range(3)]
    on_one_rank(tmp_path / "whole")
    # As if the kill had come when two of three items were saved at a further step.
    shutil.copytree(tmp_path / "killed", tmp_path / "uneven")
    with pytest.raises(KilledError):
        on_one_rank(tmp_path / "uneven", kill_at={"class-0000": 5})
    folder = next((tmp_path / "uneven").rglob("*.checkpoint")).parent
    (folder / "class-0001.000000005.checkpoint").unlink()
    for path in (tmp_path / "killed").rglob("*.checkpoint"):
        shutil.copy(path, folder)
    for name in ("killed", "uneven"):
        method = on_one_rank(tmp_path / name)
        assert set(method.steps_done.values()) == {3}  # from the fourth of six on
        assert_same_bits(tmp_path / "whole", tmp_path / name)
