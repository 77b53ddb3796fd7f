import pytest
import torch

from ddoq.finite import NotFiniteError
from ddoq.images import to_float, to_uint8


def test_all_levels_survive_the_round_trip():
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(to_float(levels)), levels)


def test_floats_are_rounded_and_clipped():
    values = torch.tensor([-0.1, 0.4 / 255, 0.6 / 255, 1.7])
    assert to_uint8(values).tolist() == [0, 0, 1, 255]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_is_no_black_image(value):
    with pytest.raises(NotFiniteError, match="not finite"):
        to_uint8(torch.tensor([0.5, value]))
