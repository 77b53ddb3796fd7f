import math

import pytest
import torch

from ddoq.errors import UserError
from ddoq.quantization import cell_weights


def test_power_one_is_the_share_times_k():
    counts = torch.tensor([10, 30, 60])
    torch.testing.assert_close(cell_weights(counts), torch.tensor([0.3, 0.9, 1.8]))


@pytest.mark.parametrize("power", [0.0, 0.25, 0.5, 1.0])
def test_mean_is_one_and_ratios_are_powers(power):
    counts = torch.randint(1, 2**40, (50,), generator=torch.Generator().manual_seed(0))
    weights = cell_weights(counts, power)
    assert weights.dtype == torch.float32
    assert float(weights.double().mean()) == pytest.approx(1, rel=1e-6)
    ratio = (float(counts[3]) / float(counts[7])) ** power
    assert float(weights[3] / weights[7]) == pytest.approx(ratio, rel=1e-5)


def test_empty_cells_weigh_nothing_unless_all_weigh_the_same():
    counts = torch.tensor([0, 2, 2])
    assert cell_weights(counts, 0.5).tolist() == [0.0, 1.5, 1.5]
    assert cell_weights(counts, 0).tolist() == [1.0, 1.0, 1.0]
    assert cell_weights(torch.zeros(2), 0).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("power", [-0.1, 1.1, math.nan])
def test_power_outside_is_refused(power):
    with pytest.raises(UserError, match="power must be in"):
        cell_weights(torch.ones(2), power)


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        (torch.tensor([1, -1]), "not negative"),
        (torch.tensor([1.0, math.nan]), "finite"),
        (torch.tensor([[1, 1]]), "shape"),
        (torch.tensor([], dtype=torch.int64), "shape"),
        (torch.zeros(3), "all 0"),
    ],
)
def test_counts_that_are_no_sizes_are_refused(counts, words):
    with pytest.raises(UserError, match=words):
        cell_weights(counts)
