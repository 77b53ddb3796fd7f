import pytest
import torch

from baselines.grids import check_cells, draw_cells, grid_of, tiny_grid
from ddoq.errors import UserError


def test_cells_are_drawn_without_replacement_and_a_larger_budget_goes_on():
    small, large = (draw_cells(40, ipc, 2, seed=3, label=1) for ipc in (2, 10))
    assert sorted(large.tolist()) == list(range(40))
    assert torch.equal(large[:8], small)


def test_cells_depend_on_seed_and_class():
    drawn = {
        tuple(draw_cells(40, 3, 2, seed=seed, label=label).tolist())
        for seed in (0, 1)
        for label in (0, 1)
    }
    assert len(drawn) == 4


def test_the_last_budget_that_fits(make_data):
    data = make_data()  # of 12 images a class
    check_cells(data, 3, 2)
    with pytest.raises(UserError, match=r"Lower model\.init_args\.ipc or model\.init_args\.factor"):
        check_cells(data, 4, 2)


def test_half_a_grid_is_refused():
    with pytest.raises(UserError, match="must be a whole number"):
        grid_of(1.5)


def test_smoke_runs_without_a_factor_take_that_of_the_papers():
    assert tiny_grid({}) == {"factor": 2}
