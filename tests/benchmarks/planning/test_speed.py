import pytest
import torch

from benchmarks.planning.speed import Clock, Rate, find_rate
from ddoq.costs.workload import Stage
from ddoq.errors import UserError


def test_rates_follow_the_precision():
    rate = find_rate("nvidia-h100", "bf16-mixed", 0.5)
    assert rate == Rate("nvidia-h100", "bf16", 989, 0.5)
    assert find_rate("nvidia-h100", "32-true").precision == "fp32"
    with pytest.raises(UserError, match="No rate of nvidia-h100 in '64-true'"):
        find_rate("nvidia-h100", "64-true")


def test_what_is_unknown_has_no_hours():
    unknown = Stage.unknown("distil", "nobody knows")
    assert find_rate("nvidia-h100", "bf16").hours(unknown) is None
    assert Clock(torch.device("cpu")).hours(unknown) is None


def test_a_stage_is_measured_once_by_batches_of_its_size():
    batches = []
    stage = Stage("encode", "VAE encoder", 1000, 5, batch=4, probe=batches.append)
    clock = Clock(torch.device("cpu"))
    hours = clock.hours(stage)
    assert hours == clock.hours(stage) == clock.seconds(stage) * 1000 / 3600
    assert batches == [4] * 4
