"""Which of diffusers' schedulers a prior runs with, and how one takes over the noise schedule of another."""

import inspect
from collections.abc import Mapping
from typing import Any

import diffusers
import torch
from diffusers import DDPMScheduler, SchedulerMixin

from ddoq.errors import UserError, suggest

# Those that start from noised latents and draw each image's noise from a generator of its own. Tests hold every one
# against diffusers' image-to-image pipeline, and every other that diffusers exports is refused.
SCHEDULERS = (
    "DDIMParallelScheduler",
    "DDIMScheduler",
    "DDPMParallelScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LCMScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "SASolverScheduler",
    "TCDScheduler",
    "UniPCMultistepScheduler",
)
# So do these, by noise schedules of their own: they fit models that were trained with them, and can stand for no other.
OWN_SCHEDULES = (
    "CMStochasticIterativeScheduler",
    "CogVideoXDDIMScheduler",
    "EDMDPMSolverMultistepScheduler",
    "EDMEulerScheduler",
)
# What of a configuration is the noise schedule and what the network predicts, whether it was written there or is a default.
_TAKEN_OVER = (
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "num_train_timesteps",
    "prediction_type",
    "rescale_betas_zero_snr",
)
# They read the variance behind the noise that a network predicts.
VARIANCE_READERS = ("DDPMScheduler", "DDPMParallelScheduler")

# Settings that a user may give: how steps are laid out, and what is made of the network's output. The rest is the noise
# schedule, which the model was trained with.
_SETTINGS: dict[str, tuple[Any, ...]] = {
    "variance_type": ("fixed_small", "fixed_small_log", "fixed_large", "learned_range"),
    "timestep_spacing": ("linspace", "leading", "trailing"),
    "clip_sample": (False, True),
}


def make_scheduler(
    name: str, config: Mapping[str, Any], changes: Mapping[str, Any] | None = None
) -> SchedulerMixin:
    """Make a diffusers scheduler by its class name, with the noise schedule of another one.

    Args:
        name: One of :data:`SCHEDULERS`, e.g. ``DDIMScheduler``.
        config: Configuration of the scheduler that the model was trained with.
        changes: Settings that take the place of its own.

    Returns:
        The scheduler.

    Raises:
        UserError: If no such scheduler can run here, or if it cannot follow the noise schedule.

    Example:
        >>> type(make_scheduler("DDPMScheduler", diffusers.DDIMScheduler().config)).__name__
        'DDPMScheduler'
    """
    check_name(name)
    given = {**config, **(changes or {})}
    base = str(config.get("_class_name", "the model's scheduler"))
    if given.get("beta_schedule") is None and given.get("trained_betas") is None:
        raise UserError(
            f"prior.scheduler {name} cannot stand for {base}, which has no betas: leave prior.scheduler out, or take a "
            "model that was trained with one of the two."
        )
    kind = getattr(diffusers, name)
    taken = inspect.signature(kind.__init__).parameters
    if "variance_type" in taken and name not in VARIANCE_READERS and _learned(given):
        given["variance_type"] = None  # the network's variance has no use then
    kept = {*(changes or {}), *(key for key in _TAKEN_OVER if key in taken)}
    # diffusers drops what is listed here when it makes another scheduler.
    defaults = [key for key in config.get("_use_default_values", []) if key not in kept]
    try:
        made: SchedulerMixin = kind.from_config({**given, "_use_default_values": defaults})
        expected = DDPMScheduler.from_config({**given, "_use_default_values": []}).alphas_cumprod
    except (NotImplementedError, ValueError) as error:
        raise UserError(f"prior.scheduler {name} cannot stand for {base}: {error}") from None
    if not torch.allclose(made.alphas_cumprod, expected, rtol=0, atol=1e-6):
        raise UserError(
            f"prior.scheduler {name} does not follow the noise schedule of {base} (rescale_betas_zero_snr or the like): "
            "take another one, or leave prior.scheduler out."
        )
    return made


def check_settings(name: str | None, settings: Mapping[str, Any]) -> None:
    """Refuse settings that a user gives a scheduler and that it would not heed.

    Args:
        name: The scheduler's class; None where it is not known yet, and only names and values can be checked.
        settings: ``variance_type``, ``timestep_spacing`` and ``clip_sample``, any of them.

    Raises:
        UserError: Naming the setting, and what it may be.
    """
    taken = (
        None if name is None else inspect.signature(getattr(diffusers, name).__init__).parameters
    )
    for key, value in settings.items():
        where = f"prior.scheduler_settings.{key}"
        if key not in _SETTINGS:
            raise UserError(f"{where} is no setting. {suggest(key, _SETTINGS)}")
        if not any(value is known or value == known for known in _SETTINGS[key]):
            listed = ", ".join(map(str, _SETTINGS[key]))
            raise UserError(f"{where} must be one of {listed}, not {value!r}.")
        if taken is None:
            continue
        if key not in taken:
            raise UserError(f"{where} means nothing to {name}: leave it out.")
        if key == "variance_type" and _learned({key: value}) and name not in VARIANCE_READERS:
            raise UserError(
                f"{where} {value} needs prior.scheduler {' or '.join(VARIANCE_READERS)}; {name} reads no variance."
            )


def check_name(name: str) -> None:
    """Refuse what a user names as a scheduler and is none of :data:`SCHEDULERS`.

    Raises:
        UserError: With the names that are.
    """
    if name not in SCHEDULERS:
        known = name in dir(diffusers) and name.endswith("Scheduler")
        why = f"{name} cannot be used" if known else f"Unknown prior scheduler {name!r}"
        raise UserError(f"{why}. {suggest(name, SCHEDULERS)}")


def check_scheduler(name: str, config: Mapping[str, Any], source: str) -> None:
    """Refuse a scheduler of a model that cannot go from image to image.

    Args:
        name: Its class.
        config: Its configuration.
        source: The model, for the error.

    Raises:
        UserError: If it is none of :data:`SCHEDULERS` or :data:`OWN_SCHEDULES`.
    """
    if name in SCHEDULERS or name in OWN_SCHEDULES:
        return
    good = ", ".join(SCHEDULERS)
    if config.get("beta_schedule") is None and config.get("trained_betas") is None:
        mend = f"The model was trained for it; take one that was trained with one of {good}."
    else:
        mend = f"Name another one by prior.init_args.scheduler: {good}."
    raise UserError(
        f"{source}: scheduler/scheduler_config.json names {name}, which cannot noise latents and denoise them image by "
        f"image. {mend}"
    )


def check_variance(scheduler: Any, predicted: bool, source: str) -> None:
    """Refuse a scheduler that wants a variance which it does not get.

    Args:
        scheduler: The one that will run.
        predicted: Whether the network gives a variance beside the noise.
        source: The model, for the error.

    Raises:
        UserError: If its ``variance_type`` is learned, and nothing has learned it.
    """
    name = type(scheduler).__name__
    reads = "variance_type" in inspect.signature(type(scheduler).__init__).parameters
    if not reads or not _learned(scheduler.config) or (predicted and name in VARIANCE_READERS):
        return
    why = f"{name} has no use for it" if predicted else "the network gives none"
    raise UserError(
        f"{source}: scheduler/scheduler_config.json asks for a learned variance (variance_type "
        f"{scheduler.config.variance_type}), but {why}. Set variance_type to fixed_small there, or name a scheduler that "
        "needs none: prior.init_args.scheduler: DDIMScheduler."
    )


def extra_arguments(scheduler: Any, generators: list[torch.Generator]) -> dict[str, Any]:
    """Return what a scheduler's ``step`` takes beside the prediction, as diffusers' Stable Diffusion pipelines give it.

    They set ``eta`` to 0, TCD's included, whose own default of 0.3 draws noise at every step.

    Args:
        scheduler: Any of :data:`SCHEDULERS` or :data:`OWN_SCHEDULES`.
        generators: One an image.
    """
    taken = inspect.signature(scheduler.step).parameters
    given = {"generator": generators, "eta": 0.0}
    return {name: value for name, value in given.items() if name in taken}


def scheduler_label(scheduler: Any) -> str:
    """Name a scheduler for fingerprints: its class, and eta where ours is not its default.

    Example:
        >>> scheduler_label(DDPMScheduler()), scheduler_label(diffusers.TCDScheduler())
        ('DDPMScheduler', 'TCDScheduler eta=0')
    """
    eta = inspect.signature(scheduler.step).parameters.get("eta")
    changed = eta is not None and eta.default not in (0, inspect.Parameter.empty)
    return type(scheduler).__name__ + (" eta=0" if changed else "")


def _learned(config: Mapping[str, Any]) -> bool:
    return str(config.get("variance_type")).startswith("learned")
