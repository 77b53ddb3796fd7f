"""A few faults of each kind: what the long run does by the hundred."""

import random
import signal

import pytest
from faults.caches import change, whole_config
from faults.campaign import KINDS, Chunk
from faults.damage import HARM, damage, kinds_of_files
from faults.disk import can_mount, fill
from faults.kills import kills, reference
from faults.scenarios import DM


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="module")
def undisturbed(folder):
    return reference(DM, folder)


def check(trials):
    trials = list(trials)
    assert trials
    assert not [trial for trial in trials if not trial.allowed]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_stopped_run_goes_on_to_the_same_numbers(number, folder, undisturbed):
    numbers, seconds = undisturbed
    # Early enough that no run ends before it is struck.
    check(kills(DM, folder, numbers, seconds / 3, random.Random(0), number))


@pytest.mark.parametrize("turn", range(3))
def test_a_damaged_file_changes_no_number(turn, folder, undisturbed):
    numbers, _ = undisturbed
    whole = folder / f"reference-{DM.name}"
    kinds = [paths for kind, paths in kinds_of_files(whole).items() if "student" not in kind]
    draw = random.Random(turn)
    path = draw.choice(draw.choice(kinds))
    check([damage(DM, folder, whole, numbers, path, draw.choice(HARM), draw)])


def test_a_full_disk_loses_nothing(folder, undisturbed):
    if not can_mount(folder):
        pytest.skip("mounting a small disk needs root")
    numbers, _ = undisturbed
    check(fill(DM, folder, numbers, 150_000, random.Random(0)))


def test_a_changed_key_never_meets_an_old_cache(folder, undisturbed):
    config = whole_config(DM, folder)
    whole = folder / f"reference-{DM.name}"
    check([change(DM, folder, config, whole, random.Random(4))])


def test_malformed_inputs_end_in_one_clear_error(folder):
    check(KINDS["inputs"](Chunk("inputs", tries=6, seed=2), folder))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_faults_of_every_kind(kind, seed, tmp_path):
    check(KINDS[kind](Chunk(kind, tries=3, seed=1000 + seed), tmp_path))
