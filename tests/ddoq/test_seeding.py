import subprocess
import sys

import numpy as np
import pytest
import torch

from ddoq.errors import UserError
from ddoq.seeding import MAX_SEED, check_seed, check_seeds, derive_seed, generator_for


def test_seeds_differ_for_every_key_and_fit_a_generator():
    seeds = {derive_seed(s, "noise", c, k) for s in range(5) for c in range(20) for k in range(20)}
    assert len(seeds) == 5 * 20 * 20
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_keys_do_not_run_into_one_another():
    assert (
        len(
            {
                derive_seed(0, 1, 23),
                derive_seed(0, 12, 3),
                derive_seed(0, 123),
                derive_seed(0, "123"),
            }
        )
        == 4
    )
    assert derive_seed(0, "a", "b") != derive_seed(0, "a\x1fb")
    assert derive_seed(0, "a'", "b") != derive_seed(0, "a", "'b")


@pytest.mark.parametrize("three", [np.int64(3), np.int32(3), torch.tensor(3)])
def test_integers_of_other_libraries_are_the_same_key(three):
    assert derive_seed(0, "noise", three) == derive_seed(0, "noise", 3)
    assert derive_seed(three, "noise") == derive_seed(3, "noise")


def test_floats_are_refused():
    with pytest.raises(TypeError):
        derive_seed(0, 3.0)


def test_streams_are_independent_of_the_process_and_of_the_global_generator():
    code = "from ddoq.seeding import derive_seed; print(derive_seed(7, 'noise', 3))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(other.stdout) == derive_seed(7, "noise", 3)
    torch.manual_seed(0)
    first = torch.randn(4, generator=generator_for(7, "noise", 3))
    torch.manual_seed(1)
    state = torch.get_rng_state()
    assert torch.equal(first, torch.randn(4, generator=generator_for(7, "noise", 3)))
    assert torch.equal(state, torch.get_rng_state())


def test_neighbouring_keys_give_uncorrelated_noise():
    rows = torch.stack([torch.randn(4096, generator=generator_for(0, "x", k)) for k in range(8)])
    off_diagonal = torch.corrcoef(rows) - torch.eye(8)
    assert off_diagonal.abs().max() < 5 / 4096**0.5


@pytest.mark.parametrize("seed", [-1, MAX_SEED + 1, 2**64, 0.0, True, "0", None])
def test_what_seeds_no_generator_is_refused(seed):
    with pytest.raises(UserError, match=r"teacher\.seed must be an integer from 0 to 4294967295"):
        check_seed("teacher.seed", seed)
    with pytest.raises(UserError, match=r"seeds must be a list of integers from 0 to 4294967295"):
        check_seeds("seeds", [0, seed])


def test_the_greatest_seed_is_what_numpy_takes():
    np.random.RandomState(check_seed("seed", MAX_SEED))
    with pytest.raises(ValueError, match="Seed must be between"):
        np.random.RandomState(MAX_SEED + 1)


@pytest.mark.parametrize(
    ("seeds", "message"),
    [([0, 1, 0], "the seed 0 is listed twice"), ([], "at least one"), (3, "must be a list")],
)
def test_lists_that_are_no_repetitions_are_refused(seeds, message):
    with pytest.raises(UserError, match=message):
        check_seeds("seeds", seeds)
