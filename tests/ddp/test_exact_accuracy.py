"""Training and testing on several ranks, in processes of their own: the same student, the exact accuracy."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import warm_start

# What would make the child believe that it is itself a rank.
RANK_VARIABLES = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "RANK")
EXACT = 1e-7  # torchmetrics divides in float32
SCRIPT = """
import json, sys
import lightning as L
import torch
import torch.distributed as dist
from torch import nn

from benchmarks.students.evaluation import Run, evaluate_student
from benchmarks.run.ranks import extend_timeouts
from benchmarks.students.recipes import load_recipe
from benchmarks.students.module import StudentModule
from benchmarks.students.student import Student
from benchmarks.students.training_set import TrainingSet
from ddoq.data.base import ImageDataModule
from ddoq.data.splits import TensorSplit
from ddoq.data.class_registry import ClassRegistry
from ddoq.distillation.distilled_set import DistilledSet


class Noise(ImageDataModule):
    name = "noise"

    def load_splits(self):
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (101, 3, 4, 4), generator=generator, dtype=torch.uint8)
        split = TensorSplit(images, torch.arange(101) % 3)
        return split, split, ClassRegistry(["a", "b", "c"])

    def source_fingerprint(self):
        return "noise"


class Plain(Student):
    def build(self, data):
        layers = [nn.BatchNorm2d(3)] if self.arch == "bn" else []
        network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(48, 3))
        self.network = getattr(self, "network", network)  # the first is the one that is trained
        return network


class Teacher(nn.Sequential):
    num_classes = 3


def accuracy(network, data, take=slice(None)):
    with torch.no_grad():
        right = network.cpu().eval()(data.test.images[take] / 255).argmax(1) == data.test.labels[take]
    return right.sum().item(), len(right)


def test(student, distilled, data, devices, trainer):
    network = student.network.eval()
    module = StudentModule(
        network, TrainingSet.of(distilled, load_recipe("hard")), num_classes=3, lr=0.1,
        make_test_loader=data.test_dataloader,
    )
    runner = L.Trainer(
        accelerator=trainer.get("accelerator", "cpu"), devices=devices, strategy="ddp" if devices > 1 else "auto",
        logger=False, enable_checkpointing=False, use_distributed_sampler=False, enable_progress_bar=False,
    )
    (found,) = runner.test(module, verbose=False)
    return [found["top1"], found["top5"]]


def train(devices, arch, reduction, **trainer):
    data = Noise(image_size=4, batch_size=8)
    data.setup()
    # 21 images in batches of 10: the last batch, of 11, is shared unevenly.
    weights = torch.tensor([0.5, 0.5, 0.5, 1.5, 1.5, 1.5]).repeat(4)[:21]
    weights[18:] = 1.0
    distilled = DistilledSet(
        data.train.images[:21], data.train.labels[:21], weights, ["a", "b", "c"], {"ipc": 7}
    )
    torch.manual_seed(0)
    teacher = Teacher(nn.Flatten(), nn.Linear(48, 3))
    overrides = {"epochs": 3, "batch_size": 10, "temperature": 2.0, "reduction": reduction, "lr": 0.01}
    student = Plain(arch)
    outcome = evaluate_student(
        TrainingSet.of(distilled, load_recipe("unified", overrides)), data, teacher, student, seed=0,
        run=Run({
            "accelerator": "cpu", "devices": devices, "strategy": "ddp" if devices > 1 else "auto",
            "enable_progress_bar": False, **trainer,
        }, eval_every=2),
    )
    rank, timeout = 0, None
    if devices > 1:
        rank = dist.get_rank()
        device = torch.device(trainer.get("accelerator", "cpu").replace("gpu", "cuda"))
        backend = dist.distributed_c10d._get_default_group()._get_backend(device)
        timeout = backend.options._timeout.total_seconds()
    return {
        "tested": test(student, distilled, data, devices, trainer),
        "curve": outcome.curve,
        "steps": outcome.steps,
        "batch": [outcome.world_size, outcome.global_batch, outcome.sync_batchnorm],
        "truth": accuracy(student.network, data),
        "parameters": torch.cat([p.detach().flatten() for p in student.network.parameters()]).tolist(),
        "running": [b.tolist() for b in student.network.buffers()],
        "rank": rank,
        "timeout": timeout,
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    extend_timeouts()
    devices = int(sys.argv[2])
    results = {reduction: train(devices, "linear", reduction) for reduction in ("batch", "weights")}
    results["bn"] = train(devices, "bn", "batch")
    with open(f"{sys.argv[1]}.{results['bn']['rank']}", "w") as file:
        json.dump(results, file)
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("ddp") / "train.py"
    path.write_text(SCRIPT)
    return path


@pytest.fixture(scope="module", params=[2, 3])
def ranks(request, script):
    """Return what every rank reports."""
    path = script.with_name(f"{request.param}.json")
    variables = {key: value for key, value in os.environ.items() if key not in RANK_VARIABLES}
    variables |= {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script), str(path), str(request.param)]
    done = warm_start.run(command, variables)
    assert done.returncode == 0, done.stderr
    assert "sync_dist" not in done.stderr  # nothing that a user could not act on
    files = [path.with_name(f"{path.name}.{rank}") for rank in range(request.param)]
    return [json.loads(file.read_text()) for file in files]


@pytest.fixture(scope="module")
def one(script):
    train = runpy.run_path(str(script))["train"]
    return {reduction: train(1, "linear", reduction) for reduction in ("batch", "weights")}


def check_exact(result):
    right, tested = result["truth"]
    assert tested == 101
    assert result["curve"][-1]["top1"] == pytest.approx(right / tested, abs=EXACT)
    assert result["curve"][-1]["top5"] == 1.0  # three classes
    assert result["tested"] == [result["curve"][-1]["top1"], 1.0]  # of `test`, to the last digit
    assert [entry["epoch"] for entry in result["curve"]] == [2, 3]  # within the fit, and after it


def test_accuracy_is_exact_on_every_rank(ranks, one):
    for result in [*one.values(), *(rank[key] for rank in ranks for key in one)]:
        check_exact(result)
        assert result["steps"] == 6
    for key, alone in one.items():
        told = [[(e["top1"], e["top5"]) for e in rank[key]["curve"]] for rank in ranks]
        expected = [(entry["top1"], entry["top5"]) for entry in alone["curve"]]
        assert told == [expected] * len(ranks)  # to the last digit, within the fit and after it


def test_a_network_without_batch_norm_learns_what_it_learns_alone(ranks, one):
    for key, alone in one.items():
        for rank in ranks:
            assert rank[key]["parameters"] == pytest.approx(alone["parameters"], abs=1e-5)
            for before, after in zip(alone["curve"], rank[key]["curve"], strict=True):
                assert after["train_loss"] == pytest.approx(before["train_loss"], rel=1e-3)
            assert rank[key]["batch"] == [len(ranks), 10, None]
        assert alone["batch"] == [1, 10, None]
    batch, weights = one["batch"], one["weights"]
    assert batch["parameters"] != pytest.approx(weights["parameters"], abs=1e-5)


def test_statistics_per_rank_still_test_one_network(ranks):
    first = ranks[0]["bn"]
    for rank in ranks:
        assert rank["bn"]["running"] == first["running"]
        assert rank["bn"]["curve"] == first["curve"]
        assert rank["bn"]["batch"] == [len(ranks), 10, False]
        check_exact(rank["bn"])


def test_ranks_wait_for_days(ranks):
    assert {rank["batch"]["timeout"] for rank in ranks} == {7 * 24 * 3600.0}


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_synchronised_batch_norm_learns_what_one_device_learns(script, tmp_path):
    code = (
        f"import runpy, json; train = runpy.run_path({str(script)!r})['train']\n"
        "gpu = {'accelerator': 'gpu'}\n"
        "one = train(1, 'bn', 'batch', **gpu)\n"
        "two = train(2, 'bn', 'batch', sync_batchnorm=True, **gpu)\n"
        f"if two['rank'] == 0: json.dump([one, two], open({str(tmp_path / 'gpu.json')!r}, 'w'))\n"
    )
    (tmp_path / "gpu.py").write_text(code)
    variables = {key: value for key, value in os.environ.items() if key not in RANK_VARIABLES}
    variables |= {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, str(tmp_path / "gpu.py")]
    subprocess.run(command, env=variables, check=True, timeout=300)
    one, two = json.loads((tmp_path / "gpu.json").read_text())
    assert two["batch"] == [2, 10, True]
    assert two["parameters"] == pytest.approx(one["parameters"], abs=1e-4)
