"""Checkpoints of joint items on one rank; `tests/ddp/test_joint_items.py` has two."""

import pytest
import torch

from ddoq.distillation.joint import JointCheckpoint
from ddoq.distillation.shard import class_items
from ddoq.errors import UserError

ITEMS = class_items(3)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "shards"


@pytest.fixture
def checkpoint(folder):
    def make(key="key", clock=None, seconds=0.0):
        def path(item, step):
            return folder / f"{item.name}.{step}.checkpoint"

        clock = {} if clock is None else {"clock": clock}
        return JointCheckpoint(path, key, ITEMS, seconds=seconds, **clock)

    return make


def states(step):
    return [{"x": torch.tensor([float(step), index]), "note": "n"} for index in range(3)]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_all_items_come_back_at_their_step(checkpoint):
    assert checkpoint().load_step() is None
    checkpoint().save_step(4, states(4))
    done, loaded = checkpoint().load_step()
    assert done == 4
    assert [state["x"].tolist() for state in loaded] == [[4.0, 0.0], [4.0, 1.0], [4.0, 2.0]]
    assert all(state["note"] == "n" for state in loaded)


def test_earlier_steps_go_once_all_items_are_saved(checkpoint, folder):
    kept = checkpoint()
    kept.save_step(4, states(4))
    kept.save_step(8, states(8))
    assert names(folder) == [f"class-{index:04d}.000000008.checkpoint" for index in range(3)]


def test_the_newest_step_that_all_items_have_counts(checkpoint, folder, tmp_path):
    checkpoint().save_step(4, states(4))
    folder.rename(tmp_path / "older")
    checkpoint().save_step(8, states(8))
    (folder / "class-0002.000000008.checkpoint").unlink()
    for path in (tmp_path / "older").iterdir():
        path.rename(folder / path.name)
    assert len(names(folder)) == 5
    assert checkpoint().load_step()[0] == 4
    for path in folder.glob("class-0002.*"):
        path.unlink()
    assert checkpoint().load_step() is None


def test_files_of_other_kinds_are_no_steps(checkpoint, folder):
    checkpoint().save_step(4, states(4))
    for index in range(3):
        (folder / f"class-{index:04d}.stage-1.000000009.checkpoint").write_text("")
    assert checkpoint().load_step()[0] == 4


def test_other_settings_are_refused(checkpoint, folder):
    checkpoint().save_step(4, states(4))
    with pytest.raises(
        UserError, match=r"class-0000\.000000004\.checkpoint is a checkpoint of oth"
    ):
        checkpoint(key="other").load_step()


def test_damage_leads_back_to_the_newest_step_that_is_whole_for_all(
    checkpoint, folder, tmp_path, capsys
):
    checkpoint().save_step(4, states(4))
    folder.rename(tmp_path / "older")
    checkpoint().save_step(8, states(8))
    for path in (tmp_path / "older").iterdir():
        path.rename(folder / path.name)
    path = folder / "class-0001.000000008.checkpoint"
    path.write_bytes(path.read_bytes()[:-5])
    assert checkpoint().load_step()[0] == 4
    error = capsys.readouterr().err
    assert f"set aside as {path}.damaged-1; the work goes on from an earlier" in error
    (folder / "class-0002.000000004.checkpoint").write_bytes(b"")
    assert checkpoint().load_step() is None


def test_seconds_are_shared_by_items_and_add_up(checkpoint):
    clock = Clock()
    first = checkpoint(clock=clock)
    clock.now = 30.0
    first.save_step(1, states(1))
    clock.now = 100.0
    second = checkpoint(clock=clock)
    second.load_step()
    assert second.earlier == [10.0, 10.0, 10.0]
    clock.now = 106.0
    second.save_step(2, states(2))
    third = checkpoint(clock=clock)
    third.load_step()
    assert third.earlier == [12.0, 12.0, 12.0]


def test_it_is_due_every_so_many_seconds(checkpoint):
    clock = Clock()
    kept = checkpoint(clock=clock, seconds=10.0)
    assert not kept.due()
    clock.now = 10.0
    assert kept.due()
    kept.save_step(1, states(1))
    assert not kept.due()


def test_without_files_nothing_is_kept():
    nothing = JointCheckpoint(None, "", ITEMS, seconds=0)
    assert not nothing.due()
    nothing.save_step(1, states(1))
    assert nothing.load_step() is None
