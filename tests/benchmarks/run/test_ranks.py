"""What ranks need that can be seen without several of them; the rest is in tests/ddp."""

import os
import signal
import subprocess
import sys
from datetime import timedelta

import lightning as L
import pytest
import torch
from lightning.fabric.strategies.launchers.subprocess_script import _ChildProcessObserver
from lightning.pytorch.strategies import DDPStrategy, StrategyRegistry
from timm.layers import BatchNormAct2d
from torch import nn

from benchmarks.cli import main
from benchmarks.run.ranks import (
    TIMEOUT,
    EvaluationOptions,
    Ranks,
    check_strategy,
    end_ranks,
    extend_timeouts,
    joint_arguments,
)
from benchmarks.students.batch_norm import has_batch_norm, synchronize_batch_norm
from ddoq.errors import UserError

CUDA = torch.device("cuda", 0)  # only named: nothing is put there


def trainer(strategy="auto", devices=1):
    return L.Trainer(
        accelerator="cpu",
        devices=devices,
        strategy=strategy,
        logger=False,
        enable_checkpointing=False,
    )


@pytest.mark.parametrize("name", ["ddp", "ddp_find_unused_parameters_true", "auto"])
def test_a_strategy_given_by_name_waits_for_days(name):
    extend_timeouts()
    extend_timeouts()  # a second run in the same process changes nothing
    strategy = trainer(name, devices=2).strategy
    assert isinstance(strategy, DDPStrategy)
    assert strategy._timeout == TIMEOUT == timedelta(days=7)
    unused = strategy._ddp_kwargs.get("find_unused_parameters", False)
    assert unused is (name == "ddp_find_unused_parameters_true")


def test_a_strategy_given_as_a_class_keeps_its_timeout():
    extend_timeouts()
    strategy = trainer(DDPStrategy(timeout=timedelta(minutes=3)), devices=2).strategy
    assert strategy._timeout == timedelta(minutes=3)
    assert StrategyRegistry["ddp_spawn"]["init_params"]["start_method"] == "spawn"


def test_synchronised_layers_keep_parameters_and_activations():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 1), BatchNormAct2d(4), nn.BatchNorm2d(4))
    images = torch.randn(5, 3, 2, 2)
    expected, before = network.eval()(images), list(network.parameters())
    converted = synchronize_batch_norm(network, CUDA, "s")
    kinds = [isinstance(m, nn.SyncBatchNorm) for m in converted]
    assert kinds == [False, True, True]
    assert [id(p) for p in converted.parameters()] == [id(p) for p in before]
    assert torch.equal(converted.eval()(images), expected)
    assert (converted[:2](images) >= 0).all()  # the ReLU inside timm's layer is still there


def test_batch_norm_cannot_be_synchronised_on_a_cpu():
    cpu = torch.device("cpu")
    with pytest.raises(UserError, match=r"'small'.*evaluation.sync_batchnorm to false"):
        synchronize_batch_norm(nn.Sequential(nn.BatchNorm1d(2)), cpu, "small")
    other = nn.Sequential(nn.GroupNorm(1, 2), nn.LayerNorm(2), nn.InstanceNorm2d(2))
    assert not has_batch_norm(other)
    assert synchronize_batch_norm(other, cpu, "small") is other


def test_torch_still_refuses_synchronised_batch_norm_on_a_cpu(tmp_path):
    # If this fails, torch has learnt it and the error above can go.
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        with pytest.raises(ValueError, match="GPU"):
            nn.SyncBatchNorm(2)(torch.randn(4, 2))
    finally:
        torch.distributed.destroy_process_group()


def test_where_joint_students_run():
    options = EvaluationOptions("ddp", sync_batchnorm=False)
    settings = {"strategy": "ddp", "devices": 2, "num_nodes": 1, "precision": None}
    assert joint_arguments(options, trainer("ddp", 2), settings) == {
        "devices": 2,
        "num_nodes": 1,
        "strategy": "ddp",
        "sync_batchnorm": False,
    }
    given = {"class_path": "DDPStrategy", "init_args": {}}
    with pytest.raises(UserError, match=r"trainer.strategy by its name, e.g. ddp"):
        joint_arguments(options, trainer(DDPStrategy(), 2), {**settings, "strategy": given})


@pytest.mark.parametrize(
    ("word", "mend"),
    [
        ("apart", "'independent', its name now"),
        ("together", "'ddp', its name now"),
        ("x", "or 'ddp'"),
    ],
)
def test_other_words_for_ranks_are_refused(word, mend, capsys):
    with pytest.raises(UserError, match=f"evaluation.ranks '{word}': write .*{mend}"):
        EvaluationOptions(word)
    data = ["--data", "Digits", "--model", "RandomSelection", "--model.init_args.ipc", "1"]
    assert main(["fit", *data, "--evaluation.ranks", word]) == 2
    assert f"evaluation.ranks '{word}': write" in capsys.readouterr().err


def test_strategies_that_start_processes_for_every_call_are_refused():
    check_strategy(trainer())
    check_strategy(trainer("ddp", 2))
    with pytest.raises(UserError, match=r"'ddp_spawn'.*set it to ddp"):
        check_strategy(trainer("ddp_spawn", 2))


def test_one_rank_waits_for_nobody(tmp_path):
    ranks = Ranks(trainer(), tmp_path)
    ranks.destroy_process_group()
    ranks.barrier()
    assert list(tmp_path.iterdir()) == []


def test_ranks_are_ended_and_nobody_is_killed_because_of_their_end():
    launched = trainer("ddp", devices=2)
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
    launcher = launched.strategy.launcher
    launcher.procs = [process]
    observer = _ChildProcessObserver(os.getpid(), launcher.procs, sleep_period=1)
    observer.start()
    end_ranks(launched, kill=False)
    assert process.wait(timeout=60) == -signal.SIGTERM
    observer.join(timeout=60)  # it would end this process
    assert not observer.is_alive()
    end_ranks(launched, kill=True)  # of those that are gone none is left to end
    end_ranks(trainer(), kill=True)
