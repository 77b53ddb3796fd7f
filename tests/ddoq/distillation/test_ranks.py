from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

from ddoq.distillation.ranks import RankGroup, in_item_order, one_device, start_ranks


def test_one_rank_needs_no_process_group():
    alone = RankGroup()
    assert list(alone.share(3)) == [0, 1, 2]
    assert alone.from_first("x") == "x"
    alone.barrier()


def test_what_is_gathered_is_a_contiguous_copy_without_gradient():
    given = torch.arange(6.0).reshape(2, 3).T.requires_grad_()
    ((gathered,),) = RankGroup().all_gather([given], torch.device("cpu"))
    assert torch.equal(gathered, given)
    assert gathered.is_contiguous()
    assert not gathered.requires_grad
    with torch.no_grad():
        given += 1
    assert not torch.equal(gathered, given)


def test_shares_come_back_in_the_order_of_the_items():
    for count in range(7):
        for size in range(1, 5):
            items = list(range(count))
            shares = [[items[i] for i in RankGroup(r, size).share(count)] for r in range(size)]
            assert in_item_order(shares) == items


@pytest.mark.parametrize("shares", [[["a"], ["b", "c"]], [[], ["a"]], [["a", "b", "c"], []]])
def test_a_rank_that_gives_too_little_or_too_much_is_noticed(shares):
    with pytest.raises(ValueError, match="one tensor for each of its items; given: "):
        in_item_order(shares)


def test_one_device_says_where_a_rank_works(trainer):
    assert one_device(trainer) == {
        "accelerator": "cpu",
        "devices": 1,
        "precision": "32-true",
        "enable_progress_bar": False,
    }
    strategy = SimpleNamespace(root_device=torch.device("cuda", 3))
    parts = {"precision": "bf16-mixed", "progress_bar_callback": object()}
    assert one_device(SimpleNamespace(strategy=strategy, **parts)) == {
        "accelerator": "cuda",
        "devices": [3],
        "precision": "bf16-mixed",
        "enable_progress_bar": True,
    }


def test_processes_are_started_once_and_only_where_the_trainer_would(trainer):
    class Launcher(_SubprocessScriptLauncher):
        def __init__(self):
            self.procs = []
            self.calls = 0

        def launch(self, function):
            self.calls += 1
            self.procs.append("process")

    def calls(world_size, launcher):
        strategy = SimpleNamespace(launcher=launcher)
        for _ in range(2):
            start_ranks(SimpleNamespace(world_size=world_size, strategy=strategy))
        return getattr(launcher, "calls", 0)

    assert calls(2, Launcher()) == 1
    assert calls(1, Launcher()) == 0
    # As under torchrun, which has no launcher of Lightning's, and where processes end with each call.
    assert calls(2, None) == 0
    assert calls(2, SimpleNamespace(procs=[], launch=None)) == 0
    start_ranks(trainer)
