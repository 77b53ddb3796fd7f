"""Distil in two gloo processes that are forks of the test: to import torch and its kin again takes longer than the work."""

import multiprocessing
import os
import socket
from collections.abc import Callable
from pathlib import Path

import lightning as L
import torch

from ddoq.distillation.distiller import Distiller


def distill_on_two_ranks(make: Callable[[], Distiller], root: Path) -> None:
    """Run a method that is attached to its data.

    Args:
        make: Makes it, once in each process.
        root: The output folder.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("fork")
    ranks = [context.Process(target=_run, args=(rank, port, make, root)) for rank in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(timeout=240)
        if process.exitcode is None:
            process.kill()
    assert [process.exitcode for process in ranks] == [0, 0]


def _run(rank: int, port: int, make: Callable[[], Distiller], root: Path) -> None:
    # With these set, Lightning takes it that somebody else has started all ranks.
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
        "NODE_RANK": "0",
        "LOCAL_RANK": str(rank),
    }
    torch.set_num_threads(1)
    trainer = L.Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        inference_mode=False,
    )
    method = make()
    method.run(trainer, root)
    assert trainer.world_size == 2
