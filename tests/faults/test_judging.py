"""The judge of faults finds what is not allowed."""

import random
import signal
import time

import pytest
from faults import caches, damage, inputs, trials
from faults.kills import kills, reference
from faults.report import page
from faults.scenarios import DM
from faults.trials import Trial, pattern, reaction
from faults.warm import Finished, Strike, run
from hypothesis import HealthCheck, given, settings

TRACEBACK = "Traceback (most recent call last):\n  ...\nValueError: x\n"


@pytest.mark.parametrize(
    ("status", "errors", "expected"),
    [
        (None, "", trials.HANG),
        (1, TRACEBACK, trials.TRACEBACK),
        (2, TRACEBACK, trials.TRACEBACK),
        (-11, "", trials.CRASH),
        (99, "error: key lr", trials.CRASH),
        (2, "out of luck", trials.VAGUE),
        (2, "error: something is wrong", trials.VAGUE),
        (2, "error: lr must be finite", trials.REFUSED),
        (1, "1 of 2 students failed: lr", trials.FAILED),
        (0, "", None),
    ],
)
def test_reactions(status, errors, expected):
    assert reaction(Finished(status, "", errors, 1.0), ["lr"]) == expected


def test_only_some_outcomes_are_allowed():
    assert Trial("f", "t", trials.SAME).allowed
    bad = (trials.WRONG, trials.SILENT, trials.TRACEBACK, trials.HANG, trials.VAGUE, trials.BLOCKED)
    assert not any(Trial("f", "t", outcome).allowed for outcome in bad)


def test_a_hanging_process_is_ended():
    finished = run(["--help"], limit=0.2, prepare=lambda: time.sleep(60))
    assert finished.status is None
    assert finished.seconds < 30


def test_a_process_that_is_struck_says_by_what():
    finished = run(["--help"], strike=Strike(0.1), prepare=lambda: time.sleep(60))
    assert finished.status == -signal.SIGKILL


def test_a_run_that_loses_its_numbers_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr("faults.kills.signature", lambda output: {"a": 1})
    monkeypatch.setattr("faults.kills.run", lambda *_, **__: Finished(0, "", "", 1.0))
    assert reference(DM, tmp_path) == ({"a": 1}, 1.0)
    ends = iter([Finished(-9, "", "", 1.0), Finished(0, "", "", 1.0), Finished(0, "", "", 1.0)])
    monkeypatch.setattr("faults.kills.run", lambda *_, **__: next(ends))
    (trial,) = kills(DM, tmp_path, {"a": 2}, 1.0, Draw())
    assert trial.outcome == trials.WRONG


class Draw:
    """Draws what a test needs: two kills, at once."""

    def randint(self, low, high):
        return 2

    def uniform(self, low, high):
        return low


def test_harm_changes_files(tmp_path):
    for harm in damage.HARM:
        path = tmp_path / "file.json"
        path.write_bytes(b'{"a": 1}')
        harm(path, random.Random(0))
        assert not path.exists() or path.read_bytes() != b'{"a": 1}'


def test_patterns_of_files(tmp_path):
    path = tmp_path / "shards" / "0123456789abcdef" / "class-0003.safetensors"
    assert pattern(path, tmp_path) == "shards/*/class-*.safetensors"
    path = tmp_path / "priors" / "prior-0123456789abcdef" / "vae" / "config.json"
    assert pattern(path, tmp_path) == "priors/*/vae/config.json"


CONFIG = {"model": {"init_args": {"ipc": 2}}, "seeds": [0], "recipe": {"overrides": {"lr": 0.1}}}


@settings(max_examples=50, database=None, deadline=None, suppress_health_check=list(HealthCheck))
@given(inputs.malformed(CONFIG))
def test_inputs_differ_from_what_they_were_drawn_from(drawn):
    assert drawn.arguments or drawn.text != inputs._dump(CONFIG)
    assert not drawn.must_fail or drawn.place


def test_places_in_configurations():
    assert (("seeds", 0), 0) in list(caches.leaves(CONFIG))
    assert caches.replaced(CONFIG, ("seeds", 0), 5)["seeds"] == [5]
    assert caches.replaced(CONFIG, ("model", "init_args", "ipc"), 3)["model"]["init_args"] == {
        "ipc": 3
    }
    assert CONFIG["model"]["init_args"] == {"ipc": 2}


def test_the_page_counts_and_marks():
    some = [Trial("kill", "a", trials.SAME)] * 3 + [Trial("kill", "b", trials.WRONG)]
    text = page(some, "command 1", 60.0)
    assert "4 faults in 1 minutes, 1 outcomes that are not allowed" in text
    assert "**wrong number**" in text
    assert "| kill    |       3 | same result" in text
    both = page(some, "command 2", 60.0, text)
    assert both.count("## Run of ") == 2
    assert both.index("command 1") < both.index("command 2")
    assert both.count("# Reliability") == 1
