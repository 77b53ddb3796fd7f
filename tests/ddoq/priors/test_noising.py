import pytest
import torch
from diffusers import DDIMScheduler, EDMEulerScheduler, EulerDiscreteScheduler

from ddoq.errors import UserError
from ddoq.priors.noising import add_noise, as_noise, noise_level


@pytest.mark.parametrize(("level", "step"), [(1.0, 999), (0.5, 500), (0.001, 1), (1e-9, 0)])
def test_levels_are_shares_of_the_schedule(level, step):
    scheduler = DDIMScheduler()
    found, signal = noise_level(scheduler, level, "a prior")
    assert (found, signal) == (step, float(scheduler.alphas_cumprod[step]))


@pytest.mark.parametrize("level", [0.0, -0.1, 1.1, float("nan")])
def test_levels_outside_of_the_schedule_are_refused(level):
    with pytest.raises(UserError, match=r"level must be"):
        noise_level(DDIMScheduler(), level, "a prior")


def test_a_scheduler_without_steps_of_noise_is_refused():
    assert noise_level(EulerDiscreteScheduler(), 0.5, "a prior")[0] == 500
    with pytest.raises(UserError, match="a prior: its scheduler EDMEulerScheduler has no noise"):
        noise_level(EDMEulerScheduler(), 0.5, "a prior")


def test_every_kind_of_prediction_stands_for_the_noise():
    scheduler = DDIMScheduler()
    clean, noise = torch.randn(2, 3, 4, 4, 4, dtype=torch.float64).unbind(0)
    step, signal = noise_level(scheduler, 0.3, "a prior")
    times = torch.full((3,), step)
    noisy = add_noise(clean, noise, signal)
    torch.testing.assert_close(noisy, scheduler.add_noise(clean, noise, times))
    velocity = scheduler.get_velocity(clean, noise, times)
    for kind, exact in (("epsilon", noise), ("v_prediction", velocity), ("sample", clean)):
        torch.testing.assert_close(as_noise(exact, noisy, signal, kind, "a prior"), noise)
    with pytest.raises(UserError, match="a prior: its network predicts 'flow'"):
        as_noise(noise, noisy, signal, "flow", "a prior")
