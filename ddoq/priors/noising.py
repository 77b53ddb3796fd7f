"""Noise levels of a model's training, and noise out of what a network predicts, whatever it was trained to predict."""

import math
from typing import Any

from torch import Tensor

from ddoq.bounds import check_number
from ddoq.errors import UserError


def noise_level(scheduler: Any, level: float, origin: str) -> tuple[int, float]:
    r"""Find the time step at a share of the noise schedule, and the signal :math:`\bar\alpha_t` that is left there.

    The schedule is that of the training; how a scheduler steps through it does not count.

    Args:
        scheduler: Any diffusers scheduler that knows it.
        level: Share of the schedule, in (0, 1]: 1 is its last step.
        origin: The prior, for errors.

    Returns:
        The step, and a number in [0, 1].

    Raises:
        UserError: If the level is out of its bounds, or the scheduler has no such schedule.

    Example:
        >>> from diffusers import DDPMScheduler
        >>> step, signal = noise_level(DDPMScheduler(), 0.5, "a prior")
        >>> step, round(signal, 3)
        (500, 0.078)
    """
    check_number("level", level, above=0, at_most=1)
    signals = getattr(scheduler, "alphas_cumprod", None)
    if signals is None:
        raise UserError(
            f"{origin}: its scheduler {type(scheduler).__name__} has no noise levels by time step, at which its network "
            "could be asked for the noise. Take a prior that was trained with DDPM's schedule, e.g. Stable Diffusion 1.5 "
            "or DiT-XL/2."
        )
    step = round(level * (len(signals) - 1))
    return step, float(signals[step])


def as_noise(predicted: Tensor, noisy: Tensor, signal: float, kind: str, origin: str) -> Tensor:
    r"""Turn a prediction into the noise that it stands for.

    With :math:`z_t = \sqrt{\bar\alpha_t} z + \sqrt{1 - \bar\alpha_t} \epsilon` the velocity of Salimans and Ho (2022) is
    :math:`v = \sqrt{\bar\alpha_t} \epsilon - \sqrt{1 - \bar\alpha_t} z`, so that
    :math:`\epsilon = \sqrt{\bar\alpha_t} v + \sqrt{1 - \bar\alpha_t} z_t`.

    Args:
        predicted: Float ``(n, ...)``: noise, velocity or clean latents.
        noisy: :math:`z_t`, of the same shape.
        signal: :math:`\bar\alpha_t`, below 1.
        kind: ``epsilon``, ``v_prediction`` or ``sample``, as schedulers call it.
        origin: The prior, for errors.

    Returns:
        Like ``predicted``.

    Raises:
        UserError: If the kind is none of these.

    Example:
        >>> import torch
        >>> clean, noise = torch.tensor([2.0]), torch.tensor([1.0])
        >>> noisy = 0.6 * clean + 0.8 * noise
        >>> as_noise(0.6 * noise - 0.8 * clean, noisy, 0.36, "v_prediction", "a prior")
        tensor([1.])
    """
    keep, spread = math.sqrt(signal), math.sqrt(1 - signal)
    if kind == "epsilon":
        return predicted
    if kind == "v_prediction":
        return keep * predicted + spread * noisy
    if kind == "sample":
        return (noisy - keep * predicted) / spread
    raise UserError(
        f"{origin}: its network predicts {kind!r}, of which it is not known how to make noise (prediction_type in "
        "scheduler/scheduler_config.json; epsilon, v_prediction and sample are)."
    )


def add_noise(latents: Tensor, noise: Tensor, signal: float) -> Tensor:
    r"""Noise latents: :math:`\sqrt{\bar\alpha_t} z + \sqrt{1 - \bar\alpha_t} \epsilon`.

    Example:
        >>> import torch
        >>> add_noise(torch.tensor([5.0]), torch.tensor([10.0]), 0.36)
        tensor([11.])
    """
    return math.sqrt(signal) * latents + math.sqrt(1 - signal) * noise
