"""Results of cells that nobody trained."""

import struct
import time
from types import SimpleNamespace

import pytest

from benchmarks.results.files import write_result
from benchmarks.results.records import Cell, Result, make_result

PROVENANCE = {
    "versions": {"python": "3.11.0", "torch": "2.14.1"},
    "git": {"commit": "a" * 40, "modified": False},
    "cpu": "a CPU",
    "gpus": [],
}


def _result_of(
    method="ddoq",
    student="resnet18",
    seed=0,
    distill_seed=0,
    top1=0.5,
    ipc=10,
    settings=None,
    data=None,
    recipe=None,
    recipe_label="unified",
    kwargs=None,
    config=None,
    git=None,
    imported=None,
    loss=0.1,
    world_size=1,
    label_bytes=0,
) -> Result:
    """Make a result; what is not given is equal in all of them."""
    description = {
        "name": "toy",
        "source": "abc",
        "num_classes": 3,
        "image_size": 8,
        "limit_per_class": None,
        "test_limit_per_class": None,
        "train_images": 60,
        "test_images": 30,
        **(data or {}),
    }
    own = {"ipc": ipc, "seed": distill_seed, **(settings or {})}
    made = {"method": method, "ipc": ipc, "seed": distill_seed, "settings": own}
    made = {**made, "context": {"prior": "prior0"}, "fingerprint": f"{method}-{distill_seed}"}
    if imported:
        distill_seed = None
        made = {
            "method": None,
            "ipc": ipc,
            "seed": None,
            "settings": None,
            "fingerprint": imported,
        }
    whole = {
        "data": description,
        "distilled": made,
        "teacher": "teacher0",
        "recipe": {"name": "unified", "epochs": 5, "labels": "online", **(recipe or {})},
        "student": {"arch": student, "kwargs": kwargs or {}},
        "seed": seed,
        "precision": "32-true",
        **(config or {}),
    }
    outcome = SimpleNamespace(
        top1_last=top1,
        top1_best=min(1.0, top1 + 0.01),
        top5_last=1.0,
        top5_best=1.0,
        best_epoch=4,
        curve=[{"epoch": 5, "top1": top1, "train_loss": loss}],
        seconds=2.0,
        params=1234567,
        epochs=5,
        steps=50,
        effective_batch=30,
        global_batch=30,
        world_size=world_size,
        label_bytes=label_bytes,
        teacher_bytes=5_000_000,
    )
    return make_result(
        cell=Cell(description["name"], method, ipc, student, seed, distill_seed, recipe_label),
        config=whole,
        outcome=outcome,
        teacher={
            "arch": "convnet3",
            "accuracy_real": 0.9722,
            "accuracy_distilled": 0.9,
            "fingerprint": "teacher0",
        },
        distilled={
            "fingerprint": f"{method}-{distill_seed}",
            "images": 30,
            "bytes": 5760,
            "statistics": {"w2_masses": 1.5 + (distill_seed or 0), "w2_uniform": 2.5},
            "cost": {"seconds": 7.0},
            "provenance": PROVENANCE,
        },
        provenance={**PROVENANCE, **({"git": git} if git else {})},
    )


@pytest.fixture
def result_of():
    return _result_of


@pytest.fixture
def board(tmp_path, result_of):
    """Write results, each described by keyword arguments, and return their folder."""

    def write(*described):
        for keywords in described:
            write_result(tmp_path / "results", result_of(**keywords))
        return tmp_path

    return write


def _records(path):
    """Read an offline run: a LevelDB log (header of 7 bytes, blocks of 32 KiB) of protobuf records."""
    from wandb.proto import wandb_internal_pb2

    data, at, whole = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if (left := 2**15 - at % 2**15) < 7:
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(whole)
            whole = b""
            yield record


def _finished_records(path):
    """Read an offline run to its end, which W&B's service may write a moment after the run has ended."""
    deadline = time.monotonic() + 10
    while True:
        found = list(_records(path))
        if any(record.WhichOneof("record_type") == "exit" for record in found):
            return found
        assert time.monotonic() < deadline, "the run has no end"
        time.sleep(0.05)


@pytest.fixture
def offline_records():
    return _finished_records
