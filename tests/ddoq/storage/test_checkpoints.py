"""Checkpoints: read back bit by bit, refused where they do not belong, seconds added up."""

import os
import time

import pytest
import torch

from ddoq.errors import UserError
from ddoq.storage import checkpoints
from ddoq.storage.checkpoints import Checkpoint, flatten, unflatten


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deep" / "work.checkpoint"


def test_nothing_is_there_at_first(path):
    checkpoint = Checkpoint(path, "key")
    assert checkpoint.load() is None
    checkpoint.clear()
    assert not path.exists()


def test_tensors_and_state_come_back(path):
    tensors = {
        "x": torch.randn(3, 2),
        "half": torch.ones(2, dtype=torch.bfloat16),
        "generator": torch.Generator().manual_seed(3).get_state(),
    }
    state = {"step": 7, "loss": 0.1 + 0.2, "nan": None, "list": [1, 2]}
    Checkpoint(path, "key").save(tensors, state)
    loaded = Checkpoint(path, "key").load()
    assert loaded is not None
    assert loaded[0].keys() == tensors.keys()
    assert all(torch.equal(loaded[0][name], tensors[name]) for name in tensors)
    assert loaded[1] == state


def test_the_later_one_replaces_the_earlier(path):
    checkpoint = Checkpoint(path, "key")
    for step in range(3):
        checkpoint.save({"x": torch.tensor(step)}, {"step": step})
    loaded = checkpoint.load()
    assert loaded is not None
    assert (int(loaded[0]["x"]), loaded[1]) == (2, {"step": 2})
    assert os.listdir(path.parent) == [path.name]
    checkpoint.clear()
    assert os.listdir(path.parent) == []


def test_other_settings_are_refused(path, monkeypatch):
    Checkpoint(path, "key").save({}, {})
    with pytest.raises(UserError, match=r"work\.checkpoint is a checkpoint of other settings.*del"):
        Checkpoint(path, "other").load()
    monkeypatch.setattr(checkpoints, "CHECKPOINT_FORMAT", -1)
    with pytest.raises(UserError, match=r"another version.*delete it to begin anew"):
        Checkpoint(path, "key").load()


@pytest.mark.parametrize("damage", ["flip", "cut", "nonsense"])
def test_damaged_files_are_set_aside(path, capsys, damage):
    Checkpoint(path, "key").save({"x": torch.arange(100)}, {"step": 1})
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[-20] ^= 1
    path.write_bytes({"flip": content, "cut": content[:-30], "nonsense": b"{}"}[damage])
    assert Checkpoint(path, "key").load() is None
    assert os.listdir(path.parent) == ["work.checkpoint.damaged-1"]
    assert "or begins anew" in capsys.readouterr().err


def test_a_disk_that_takes_nothing(path):
    path.parent.parent.joinpath("deep").write_text("a file where a folder should be")
    with pytest.raises(UserError, match=r"work\.checkpoint cannot be written"):
        Checkpoint(path, "key").save({}, {})


def test_due_at_most_every_so_many_seconds(path, clock):
    checkpoint = Checkpoint(path, "key", seconds=10, clock=clock)
    assert not checkpoint.due()
    clock.now = 10.0
    assert checkpoint.due()
    checkpoint.save({}, {})
    assert not checkpoint.due()
    clock.now = 19.9
    assert not checkpoint.due()
    clock.now = 20.0
    assert checkpoint.due()
    assert Checkpoint(path, "key", seconds=0, clock=clock).due()


def test_slow_writing_makes_checkpoints_rarer(path, clock, monkeypatch):
    checkpoint = Checkpoint(path, "key", seconds=10, clock=clock)

    def slow(*args):
        clock.now += 3.0

    monkeypatch.setattr(checkpoints, "save_tensors", slow)
    checkpoint.save({}, {})
    clock.now += 59.0  # 3 s of writing are at most a twentieth of the time
    assert not checkpoint.due()
    clock.now += 1.0
    assert checkpoint.due()


def test_seconds_of_all_processes_add_up(path, clock):
    first = Checkpoint(path, "key", clock=clock)
    clock.now = 5.0
    first.save({}, {})
    clock.now = 8.0  # killed here: what came after the checkpoint is done again
    clock.now = 100.0
    second = Checkpoint(path, "key", clock=clock)
    clock.now = 101.0
    second.load()
    assert second.elapsed == 5.0
    clock.now = 103.0
    second.save({}, {})
    third = Checkpoint(path, "key", clock=clock)
    third.load()
    clock.now = 104.0
    assert third.elapsed == 5.0 + 2.0 + 1.0


def test_what_a_killed_process_left_is_removed_once_it_is_old(path):
    checkpoint = Checkpoint(path, "key")
    checkpoint.save({}, {})
    young, old = (path.parent / f".{path.name}.{name}.tmp" for name in ("young", "old"))
    for left in (young, old):
        left.write_text("half")
    os.utime(old, (time.time() - 3600,) * 2)
    checkpoint.clear()
    assert os.listdir(path.parent) == [young.name]


def step(network, optimizer, schedule):
    loss = network(torch.linspace(-1, 1, 6 * 27).reshape(6, 3, 3, 3)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()


def make(kind):
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 2), torch.nn.Conv2d(4, 4, 2))
    network = network.to(memory_format=torch.channels_last)
    optimizer = {
        "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
        "adamw": lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.1),
        "adam-amsgrad": lambda p: torch.optim.Adam(p, lr=0.1, amsgrad=True, betas=(0.5, 0.9)),
    }[kind](network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=20)
    return network, optimizer, schedule


@pytest.mark.parametrize("kind", ["sgd", "adamw", "adam-amsgrad"])
def test_an_optimiser_goes_on_with_the_same_bits(path, kind):
    whole = make(kind)
    for _ in range(10):
        step(*whole)

    first = make(kind)
    for _ in range(4):
        step(*first)
    tensors, rest = flatten([part.state_dict() for part in first])
    Checkpoint(path, "key").save(tensors, {"rest": rest})

    second = make(kind)
    loaded = Checkpoint(path, "key").load()
    assert loaded is not None
    for part, state in zip(second, unflatten(loaded[0], loaded[1]["rest"]), strict=True):
        part.load_state_dict(state)
    assert first[1].state_dict()["param_groups"] == second[1].state_dict()["param_groups"]
    for _ in range(6):
        step(*second)
    for one, other in zip(whole[0].parameters(), second[0].parameters(), strict=True):
        assert torch.equal(one, other)
    assert whole[2].get_last_lr() == second[2].get_last_lr()


def test_flattening_keeps_types_keys_and_strides(path):
    value = {
        "tuple": (1, (2.5, "a"), []),
        3: [None, True, {}],
        "t": torch.arange(24).reshape(1, 2, 3, 4).to(memory_format=torch.channels_last),
        "expanded": torch.ones(1).expand(3),
        "empty": torch.empty(0, 2),
        "scalar": torch.tensor(1.5),
        "shared": [torch.ones(2)] * 2,
        "inf": float("inf"),
    }
    tensors, rest = flatten(value)
    Checkpoint(path, "key").save(tensors, {"rest": rest})
    loaded = Checkpoint(path, "key").load()
    assert loaded is not None
    back = unflatten(loaded[0], loaded[1]["rest"])
    assert list(back) == list(value)
    for name in ("tuple", 3, "inf"):
        assert back[name] == value[name]
        assert type(back[name]) is type(value[name])
    for name in ("t", "expanded", "empty", "scalar"):
        assert torch.equal(back[name], value[name])
    assert back["t"].stride() == value["t"].stride()
    assert back["expanded"].stride() == (1,)  # it would otherwise not hold three values
    assert all(torch.equal(part, torch.ones(2)) for part in back["shared"])


@pytest.mark.parametrize("value", [object(), {1.5: 2}, {"a": {1, 2}}])
def test_what_would_not_come_back_is_refused(value):
    with pytest.raises(TypeError, match="cannot keep"):
        flatten(value)


def test_steps_and_states_come_back(path):
    checkpoint = Checkpoint(path, "key")
    assert checkpoint.load_step() is None
    checkpoint.save_step(3, [{"x": torch.arange(2), "note": None}, 0.5])
    done, state = Checkpoint(path, "key").load_step()
    assert done == 3
    assert torch.equal(state[0].pop("x"), torch.arange(2))
    assert state == [{"note": None}, 0.5]
