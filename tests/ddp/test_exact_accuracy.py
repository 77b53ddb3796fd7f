"""Training and testing on two ranks, in processes of their own: the same student, the exact accuracy."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

# What would make the child believe that it is itself a rank.
RANK_VARIABLES = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "RANK")
SCRIPT = """
import json, sys
import lightning as L
import torch
from sklearn.metrics import accuracy_score
from torch import nn

from benchmarks.recipes import load_recipe
from benchmarks.student_module import StudentModule
from ddoq.data.base import ImageDataModule, TensorSplit
from ddoq.data.registry import ClassRegistry
from ddoq.distilled_set import DistilledSet


class Noise(ImageDataModule):
    name = "noise"

    def load_splits(self):
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (101, 3, 4, 4), generator=generator, dtype=torch.uint8)
        split = TensorSplit(images, torch.arange(101) % 3)
        return split, split, ClassRegistry(["a", "b", "c"])

    def source_fingerprint(self):
        return "noise"


def train(devices, reduction):
    data = Noise(image_size=4, batch_size=8)
    data.setup()
    # 21 images in batches of 10: the last batch, of 11, is shared unevenly.
    weights = torch.tensor([0.5, 0.5, 0.5, 1.5, 1.5, 1.5]).repeat(4)[:21]
    weights[18:] = 1.0
    distilled = DistilledSet(data.train.images[:21], data.train.labels[:21], weights, ["a", "b", "c"])
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 3))
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(48, 3))
    overrides = {"epochs": 3, "batch_size": 10, "temperature": 2.0, "reduction": reduction}
    module = StudentModule(
        network, distilled, load_recipe("unified", overrides), num_classes=3, lr=0.01,
        teacher=teacher, make_test_loader=data.test_dataloader,
    )
    trainer = L.Trainer(
        accelerator="cpu", devices=devices, strategy="ddp" if devices > 1 else "auto",
        max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False, num_sanity_val_steps=0,
    )
    trainer.fit(module)
    trainer.validate(module, verbose=False)
    with torch.no_grad():
        predictions = network(data.test.images / 255).argmax(1)
    return {
        "curve": module.curve,
        "truth": accuracy_score(data.test.labels, predictions),
        "parameters": torch.cat([p.detach().flatten() for p in network.parameters()]).tolist(),
        "steps": trainer.global_step,
        "rank": trainer.global_rank,
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    results = [train(2, reduction) for reduction in ("batch", "weights")]
    if results[0]["rank"] == 0:
        with open(sys.argv[1], "w") as file:
            json.dump(results, file)
"""


def test_two_ranks_train_and_test_as_one(tmp_path):
    script, path = tmp_path / "train.py", tmp_path / "results.json"
    script.write_text(SCRIPT)
    variables = {key: value for key, value in os.environ.items() if key not in RANK_VARIABLES}
    variables |= {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script), str(path)]
    done = subprocess.run(
        command, env=variables, check=False, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    two_ranks = json.loads(path.read_text())
    train = runpy.run_path(str(script))["train"]
    one_rank = [train(1, reduction) for reduction in ("batch", "weights")]

    for result in [*one_rank, *two_ranks]:
        # In the fit's last epoch and in the validation after it: exact to the last bit of float32.
        assert result["curve"][-1]["top1"] == pytest.approx(result["truth"], abs=1e-7)
        assert result["curve"][-2]["top1"] == result["curve"][-1]["top1"]
        assert result["curve"][-1]["top5"] == 1.0
        assert result["steps"] == 6
    for one, two in zip(one_rank, two_ranks, strict=True):
        assert two["parameters"] == pytest.approx(one["parameters"], abs=1e-5)
        for before, after in zip(one["curve"], two["curve"], strict=True):
            assert after["train_loss"] == pytest.approx(before["train_loss"], rel=1e-3)
    assert one_rank[0]["parameters"] != pytest.approx(one_rank[1]["parameters"], abs=1e-5)
