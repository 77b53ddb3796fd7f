"""NaN and infinity are found wherever they are, and nowhere else."""

import pytest
import torch
from torch import nn

from ddoq import finite
from ddoq.errors import UserError
from ddoq.finite import LossWatch, NotFiniteError, check_images, check_weights, non_finite_tensors

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_weights_and_statistics_are_named(value):
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    assert non_finite_tensors(network) == []
    network[1].running_mean[1] = value
    network[0].weight.data[0, 0] = value
    assert non_finite_tensors(network) == ["0.weight", "1.running_mean"]
    with pytest.raises(
        NotFiniteError, match=r"The net has weights .*: 0\.weight and 1 more\. Mend"
    ):
        check_weights(network, "The net", "Mend it.")


def test_a_negative_variance_is_no_statistic():
    norm = nn.BatchNorm1d(2)
    norm.running_var[0] = -1.0
    assert non_finite_tensors(norm) == ["running_var"]


def test_masks_may_hold_infinity_and_networks_nothing():
    masked = nn.Linear(2, 2)
    masked.register_buffer("mask", torch.full((2, 2), -INF))
    assert non_finite_tensors(masked) == []
    assert non_finite_tensors(nn.Identity()) == []


def test_losses_are_counted_over_looks_and_restarts():
    watch = LossWatch(done=10)
    for loss in (1.0, torch.tensor(2.0, dtype=torch.float64)):
        watch.add(loss)
    assert watch.first_bad() is None
    for loss in (1.0, -INF, NAN):
        watch.add(loss)
    assert watch.first_bad() == (14, -INF)
    assert watch.first_bad() is None


def test_a_look_is_due_after_so_many_steps(monkeypatch):
    monkeypatch.setattr(finite, "LOOK", 2)
    watch = LossWatch()
    watch.add(1.0)
    assert not watch.due()
    watch.add(1.0)
    assert watch.due()
    watch.first_bad()
    assert not watch.due()


def test_images():
    check_images(torch.zeros(1, dtype=torch.uint8), "Images", "Mend.")
    with pytest.raises(UserError, match=r"Images are not finite \(NaN or infinite\)\. Mend"):
        check_images(torch.tensor([0.0, INF]), "Images", "Mend.")
