import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

from ddoq.optimisation.schedules import cosine_factor


@pytest.mark.parametrize(("epochs", "warmup"), [(50, 5), (100, 5), (7, 6), (10, 1)])
def test_a_warm_up_equals_torchs_schedulers(epochs, warmup):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.2)
    rising = LinearLR(optimizer, start_factor=0.01, total_iters=warmup)
    falling = CosineAnnealingLR(optimizer, T_max=epochs - warmup)
    schedule = SequentialLR(optimizer, [rising, falling], milestones=[warmup])
    for epoch in range(epochs):
        rate = optimizer.param_groups[0]["lr"]
        assert 0.2 * cosine_factor(epoch, epochs, warmup=warmup) == pytest.approx(rate, rel=1e-9)
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize("zeta", [1.0, 2.0])
def test_without_a_warm_up_it_is_the_cosine(zeta):
    parameter = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    schedule = CosineAnnealingLR(optimizer, T_max=round(zeta * 20))
    for epoch in range(20):
        rate = optimizer.param_groups[0]["lr"]
        assert cosine_factor(epoch, 20, zeta=zeta) == pytest.approx(rate, rel=1e-9)
        optimizer.step()
        schedule.step()
