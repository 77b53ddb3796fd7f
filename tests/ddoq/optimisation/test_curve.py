import pytest
import torch

from ddoq.optimisation.curve import LossCurve


@pytest.mark.parametrize(("steps", "points"), [(1, 50), (7, 3), (10, 10), (100, 7), (50, 50)])
def test_means_over_stretches(steps, points):
    losses = torch.arange(float(steps))
    curve = LossCurve(steps, torch.device("cpu"), points)
    for step, loss in enumerate(losses):
        curve.add(step, loss)
    means = curve.means()
    assert len(means) == min(points, steps)
    assert means == sorted(means)
    # Stretches differ by at most a step in length, and leave none out.
    parts = [
        [loss for step, loss in enumerate(losses.tolist()) if step * len(means) // steps == part]
        for part in range(len(means))
    ]
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert means == pytest.approx([sum(part) / len(part) for part in parts])


def test_a_restored_curve_goes_on():
    whole, first, second = (LossCurve(9, torch.device("cpu"), 2) for _ in range(3))
    for step in range(9):
        whole.add(step, torch.tensor(0.1 * step))
        (first if step < 4 else second).add(step, torch.tensor(0.1 * step))
        if step == 3:
            second.restore(first.state().clone())
    assert second.means() == whole.means()
