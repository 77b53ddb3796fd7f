"""Lines of progress: rare, complete, on rank 0 only."""

import sys

import pytest
import torch
from lightning_utilities.core.rank_zero import rank_zero_only
from tqdm import tqdm

from ddoq import console
from ddoq.console import Progress, duration, say


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_short_work_prints_nothing(clock, capsys):
    progress = Progress("work", 10, clock=clock)
    for step in range(1, 11):
        clock.now += 2.9
        progress.update(step, loss=1.0)
    assert capsys.readouterr().out == ""


def test_a_line_every_so_many_seconds(clock, capsys):
    progress = Progress("work", 4000, seconds=10, clock=clock)
    for step in range(1, 4001):
        clock.now += 0.01
        progress.update(step, loss=torch.tensor(1 / step))
    lines = capsys.readouterr().out.splitlines()
    # 40 s of work: at about 10, 20 and 30 s; at its end there is nothing left to wait for.
    assert len(lines) == 3
    steps = [int(line.split()[1].replace(",", "")) for line in lines]
    assert steps == pytest.approx([1000, 2000, 3000], abs=5)
    assert lines[1] == (
        f"work: {steps[1]:,} of 4,000 steps, loss 0.0005, 100 steps a second, 20 s to go"
    )


def test_rate_and_time_to_go_are_of_this_process(clock, capsys):
    progress = Progress("work", 100, unit="images", done=90, seconds=5, clock=clock)
    clock.now += 20
    progress.update(92)
    assert capsys.readouterr().out == (
        "work: 92 of 100 images, 0.1 images a second, 1 min 20 s to go\n"
    )


def test_nothing_done_yet_has_no_rate(clock, capsys):
    progress = Progress("work", 100, done=3, seconds=5, clock=clock)
    clock.now += 5
    progress.update(3)
    assert capsys.readouterr().out == "work: 3 of 100 steps\n"


def test_loss_is_read_only_where_a_line_is_printed(clock, capsys):
    class Loss:
        reads = 0

        def __float__(self):
            self.reads += 1
            return 2.0

    loss = Loss()
    progress = Progress("work", 100, seconds=5, clock=clock)
    progress.update(1, loss=loss)
    assert loss.reads == 0
    clock.now += 5
    assert progress.due()
    progress.update(2, loss=loss)
    assert loss.reads == 1
    assert not progress.due()


def test_other_ranks_say_nothing(clock, capsys, monkeypatch):
    monkeypatch.setattr(rank_zero_only, "rank", 1, raising=False)
    progress = Progress("work", 100, seconds=0, clock=clock)
    progress.update(2)
    say("a line")
    assert capsys.readouterr().out == ""


def test_lines_stand_above_the_bars_of_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr(type(sys.stdout), "isatty", lambda self: True)
    with tqdm(total=2, file=sys.stdout, desc="a bar") as bar:
        say("a line")
        bar.update()
    # What a terminal shows is what comes after the last return to the left margin.
    shown = [line.split("\r")[-1] for line in capsys.readouterr().out.split("\n")]
    assert shown[0] == "a line"
    assert shown[1].startswith("a bar")


def test_the_pause_is_read_when_work_begins(clock, capsys, monkeypatch):
    monkeypatch.setattr(console, "PAUSE", 0.0)
    Progress("work", 100, clock=clock).update(2)
    assert capsys.readouterr().out.startswith("work: 2 of 100 steps")


def test_durations_have_two_units():
    assert duration(119.6) == "2 min 0 s"
    assert duration(3599.9) == "1 h 0 min"
    assert duration(86400) == "1 d 0 h"
