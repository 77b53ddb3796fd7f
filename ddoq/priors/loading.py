"""Opening of diffusers DiT folders and hub ids, with errors that say what to mend."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import DiTPipeline, SchedulerMixin
from diffusers.utils import logging

from ddoq.errors import UserError, suggest

# The files without which a folder is no DiT pipeline.
PARTS = (
    "model_index.json",
    "vae/config.json",
    "transformer/config.json",
    "scheduler/scheduler_config.json",
)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# Draws its noise for a whole batch from one Brownian tree, so that images would depend on their batch.
_REFUSED = ("DPMSolverSDEScheduler",)


def parse_dtype(name: str | torch.dtype) -> torch.dtype:
    """Translate the name of a dtype that priors run in.

    Raises:
        UserError: If it is neither float32 nor bfloat16.

    Example:
        >>> parse_dtype("bfloat16")
        torch.bfloat16
    """
    key = str(name).removeprefix("torch.")
    if key not in DTYPES:
        raise UserError(f"Unknown prior dtype {key!r}. {suggest(key, DTYPES)}")
    return DTYPES[key]


def open_pipeline(source: str, dtype: torch.dtype) -> DiTPipeline:
    """Open a DiT pipeline from a folder, or from the Hugging Face hub.

    Args:
        source: A folder in diffusers' format, or a hub id such as ``facebook/DiT-XL-2-256``.
        dtype: What the weights are cast to.

    Returns:
        The pipeline, on the CPU.

    Raises:
        UserError: If the folder is missing or incomplete, or the hub cannot be reached.
    """
    folder = Path(source).expanduser()
    local = folder.is_dir()
    if local:
        missing = [part for part in PARTS if not (folder / part).is_file()]
        if missing:
            raise UserError(f"{folder} is no diffusers DiT folder: {', '.join(missing)} missing.")
    elif source.startswith((".", "/", "~")) or source.count("/") != 1:
        raise UserError(
            f"{source} does not exist. Give the folder of a diffusers DiT pipeline or a hub id such as "
            "facebook/DiT-XL-2-256."
        )
    try:
        with _quiet():
            pipeline = DiTPipeline.from_pretrained(
                str(folder) if local else source,
                low_cpu_mem_usage=False,  # True needs accelerate
            ).to(dtype)  # the argument for it was renamed between the releases that are supported
    except Exception as error:  # the hub client's errors share no base class
        lines = str(error).strip().splitlines()
        reason = lines[0].rstrip(".") if lines else type(error).__name__
        if local:
            raise UserError(f"{folder} cannot be loaded as a DiT pipeline: {reason}") from error
        raise UserError(
            f"{source} is no folder here, and loading it from the Hugging Face hub failed: {reason}. Without "
            f"access, run `hf download {source} --local-dir FOLDER` on a machine that has it, copy FOLDER "
            "here and give its path instead."
        ) from error
    _check_parts(pipeline, source)
    return pipeline


def make_scheduler(name: str, config: Any) -> SchedulerMixin:
    """Make a diffusers scheduler by its class name, with the noise schedule of another one.

    Args:
        name: E.g. ``DDIMScheduler``, ``DDPMScheduler``, ``DPMSolverMultistepScheduler``.
        config: Configuration of the scheduler that the model was trained with.

    Returns:
        The scheduler.

    Raises:
        UserError: If there is no such scheduler, or if it cannot draw noise image by image.

    Example:
        >>> type(make_scheduler("DDPMScheduler", diffusers.DDIMScheduler().config)).__name__
        'DDPMScheduler'
    """
    names = [
        key
        for key in dir(diffusers)
        if key.endswith("Scheduler") and not key.startswith(("Flax", "_"))
    ]
    if name not in names or not _usable(getattr(diffusers, name)):
        raise UserError(
            f"Unknown prior scheduler {name!r}. {suggest(name, filter(_usable_name, names))}"
        )
    return getattr(diffusers, name).from_config(config)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the loading bar, and warnings such as that JSON keeps the numbers of classes as text."""
    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()


def _usable_name(name: str) -> bool:
    """Say whether diffusers' class of this name can sample latents image by image."""
    return _usable(getattr(diffusers, name))


def _usable(candidate: Any) -> bool:
    """Say whether a scheduler can start from noised latents and takes no noise but the caller's."""
    return (
        inspect.isclass(candidate)
        and issubclass(candidate, SchedulerMixin)
        and all(
            hasattr(candidate, part)
            for part in ("add_noise", "set_timesteps", "scale_model_input", "step")
        )
        and candidate.__name__ not in _REFUSED
    )


def _check_parts(pipeline: DiTPipeline, source: str) -> None:
    """Refuse an autoencoder and a transformer that do not belong together."""
    vae, dit = pipeline.vae.config, pipeline.transformer.config
    if getattr(dit, "num_embeds_ada_norm", None) is None:
        raise UserError(
            f"{source}: transformer/config.json has no num_embeds_ada_norm, so it is no DiT."
        )
    if vae.latent_channels != dit.in_channels:
        raise UserError(
            f"{source}: the VAE has {vae.latent_channels} latent channels, the transformer {dit.in_channels}."
        )
    if dit.out_channels not in (None, dit.in_channels, 2 * dit.in_channels):
        raise UserError(
            f"{source}: {dit.out_channels} output channels fit neither noise nor noise and variance."
        )
