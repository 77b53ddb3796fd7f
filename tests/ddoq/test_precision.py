import pytest
import torch

from ddoq.errors import UserError
from ddoq.precision import autocast, check_precision, without_autocast


@pytest.mark.parametrize("default", [torch.float32, torch.bfloat16, torch.float64])
def test_shields_from_both_and_restores_them(default):
    a = torch.ones(2, 2)
    torch.set_default_dtype(default)
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            with without_autocast():
                assert (a @ a).dtype == torch.zeros(1).dtype == torch.float32
            with pytest.raises(RuntimeError), without_autocast():
                torch.ones(2) @ torch.ones(3)
            assert (a @ a).dtype == torch.bfloat16
        assert torch.get_default_dtype() == default
    finally:
        torch.set_default_dtype(torch.float32)


def test_autocast_computes_in_what_it_is_told():
    a = torch.ones(2, 2)
    for precision, dtype in (("32-true", torch.float32), ("bf16-mixed", torch.bfloat16)):
        with autocast(a.device, precision):
            assert (a @ a).dtype == dtype


def test_refuses_what_nothing_is_trained_in():
    with pytest.raises(
        UserError, match=r"teacher\.precision must be 32-true or bf16-mixed, not 16"
    ):
        check_precision("teacher.precision", "16")
