"""Opening of diffusers folders and hub ids, DiT or Stable Diffusion, with errors that say what to mend."""

import logging
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline, DiTPipeline, StableDiffusionImg2ImgPipeline
from diffusers.utils import logging as diffusers_logging
from huggingface_hub import constants
from huggingface_hub.errors import GatedRepoError
from transformers.utils import logging as transformers_logging

from ddoq.errors import UserError, suggest
from ddoq.priors.schedulers import (
    check_scheduler,
    check_settings,
    check_variance,
    make_scheduler,
)
from ddoq.priors.weight_files import check_weights
from ddoq.storage.files import read_json
from ddoq.storage.folders import check_given_folder

# The files without which a folder is no DiT pipeline.
PARTS = (
    "model_index.json",
    "vae/config.json",
    "transformer/config.json",
    "scheduler/scheduler_config.json",
)
# The files without which a folder is no Stable Diffusion pipeline.
STABLE_DIFFUSION_PARTS = (
    "model_index.json",
    "vae/config.json",
    "unet/config.json",
    "text_encoder/config.json",
    "tokenizer/tokenizer_config.json",
    "scheduler/scheduler_config.json",
)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# What a pipeline's parts are made of; a model_index.json may name any module, which would be imported.
_LIBRARIES = ("diffusers", "transformers")
# Two settings of a scheduler that diffusers mends whenever it makes a Stable Diffusion pipeline. PNDM, the model's own, has
# no `clip_sample`: DDIM would be made with its default and clip latents to [-1, 1].
_STABLE_DIFFUSION_SCHEDULE = {"clip_sample": False, "steps_offset": 1}


def parse_dtype(name: str | torch.dtype) -> torch.dtype:
    """Translate the name of a dtype that priors run in.

    Raises:
        UserError: If it is not float32, bfloat16 or float16.

    Example:
        >>> parse_dtype("bfloat16")
        torch.bfloat16
    """
    key = str(name).removeprefix("torch.")
    if key not in DTYPES:
        raise UserError(f"Unknown prior dtype {key!r}. {suggest(key, DTYPES)}")
    return DTYPES[key]


@dataclass(frozen=True)
class PipelineFormat:
    """One kind of diffusers pipeline that priors are made of.

    Attributes:
        name: What people call it.
        pipeline: The diffusers class that opens it.
        class_names: What ``model_index.json`` may call it.
        parts: Files without which a folder is none.
        example: A hub id.
        check: Refuses parts that do not belong together.
        options: Further arguments for ``from_pretrained``.
        schedule: Settings that another scheduler gets in the place of the folder's.
    """

    name: str
    pipeline: Any
    class_names: tuple[str, ...]
    parts: tuple[str, ...]
    example: str
    check: Callable[[Any, str], None]
    options: Mapping[str, Any] = field(default_factory=dict)
    schedule: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Opening:
    """How a pipeline is opened.

    Attributes:
        scheduler: Class name of a diffusers scheduler (:data:`ddoq.priors.schedulers.SCHEDULERS`); None takes the folder's.
        variant: Which weights are read where a folder holds several, e.g. ``fp16`` for ``*.fp16.safetensors``; a part
            without such a file is read from its plain one.
        allow_pickle: Whether ``.bin`` files are read where there is no ``.safetensors``. They are pickles: opening one may
            run whatever its author put there, so allow it only for files whose origin is trusted.
        scheduler_settings: Settings of the scheduler that take the place of the folder's; see
            :func:`ddoq.priors.schedulers.check_settings`.
    """

    scheduler: str | None = None
    variant: str | None = None
    allow_pickle: bool = False
    scheduler_settings: Mapping[str, Any] = field(default_factory=dict)


def find_format(source: str) -> PipelineFormat:
    """Say what kind of pipeline a folder or a hub id holds.

    Raises:
        UserError: If it cannot be read, or is of another kind.
    """
    folder = _local_folder(source)
    if folder is not None and not (folder / "model_index.json").is_file():
        raise UserError(f"{folder} is no diffusers folder: model_index.json missing.")
    with _user_errors(source, folder, "diffusers"), _quiet():
        name = str(DiffusionPipeline.load_config(str(folder or source)).get("_class_name"))
    for kind in FORMATS:
        if name in kind.class_names:
            return kind
    valid = " or ".join(kind.class_names[0] for kind in FORMATS)
    raise UserError(f"{source} holds a {name}; a prior can be of {valid}.")


def open_pipeline(
    source: str,
    dtype: torch.dtype,
    kind: PipelineFormat | None = None,
    opening: Opening = Opening(),
) -> Any:
    """Open a pipeline from a folder, or from the Hugging Face hub.

    Args:
        source: A folder in diffusers' format, or a hub id such as ``facebook/DiT-XL-2-256``.
        dtype: What the weights are cast to.
        kind: What is expected there; None expects DiT.
        opening: Scheduler, variant, and whether pickles are read.

    Returns:
        The pipeline, on the CPU.

    Raises:
        UserError: If the folder is missing or incomplete, if its parts do not belong together, if its scheduler cannot go
            from image to image, if its weights are pickles or of another variant, or if the hub cannot be reached.
    """
    kind = kind or DIT
    folder = _local_folder(source, kind)
    if folder is not None:
        index = _check_folder(folder, kind)
        check_weights(folder, _models(kind), opening.variant, opening.allow_pickle)
        if opening.scheduler is None:  # before it is made: some need further packages
            config = read_json(folder / "scheduler" / "scheduler_config.json")
            check_scheduler(str(index["scheduler"][1]), config, source)
    with _user_errors(source, folder, kind.name), _quiet():
        pipeline = kind.pipeline.from_pretrained(
            str(folder or source),
            low_cpu_mem_usage=False,  # True needs accelerate
            variant=opening.variant,
            use_safetensors=None if opening.allow_pickle else True,
            **kind.options,
        ).to(dtype)  # the argument for it was renamed between the releases that are supported
    name = type(pipeline.scheduler).__name__
    if opening.scheduler is None:
        check_scheduler(name, pipeline.scheduler.config, source)
    if opening.scheduler is not None or opening.scheduler_settings:
        wanted, settings = opening.scheduler or name, opening.scheduler_settings
        check_settings(wanted, settings)
        config = {**pipeline.scheduler.config, "_class_name": name}
        with _quiet():  # settings that the other one does not have
            pipeline.scheduler = make_scheduler(wanted, config, {**kind.schedule, **settings})
    _check_scaling(pipeline.vae.config, source)
    kind.check(pipeline, source)
    return pipeline


def _models(kind: PipelineFormat) -> list[str]:
    """List the folders that hold weights."""
    return [part.split("/")[0] for part in kind.parts if part.endswith("/config.json")]


def _check_folder(folder: Path, kind: PipelineFormat) -> dict[str, Any]:
    """Refuse a folder that lacks parts, or would import what is no part of diffusers; return its index."""
    missing = [part for part in kind.parts if not (folder / part).is_file()]
    if missing:
        raise UserError(
            f"{folder} is no diffusers {kind.name} folder: {', '.join(missing)} missing."
        )
    index: dict[str, Any] = read_json(folder / "model_index.json")
    for part in [part.split("/")[0] for part in kind.parts if "/" in part]:
        if not all(index.get(part) or [None]):
            raise UserError(f"{folder}/model_index.json lists no {part.replace('_', ' ')}.")
        if index[part][0] not in _LIBRARIES:
            raise UserError(
                f"{folder}/model_index.json takes its {part.replace('_', ' ')} from the module {index[part][0]!r}, which "
                f"is not imported: a prior is made of classes of {' and '.join(_LIBRARIES)} alone."
            )
    return index


def _local_folder(source: str, kind: PipelineFormat | None = None) -> Path | None:
    """Return the folder where there is one, unless it is damaged, and None for what may be a hub id."""
    folder = Path(source).expanduser()
    if folder.is_dir():
        check_given_folder(folder, "ddoq-bench prior")
        return folder
    if source.startswith((".", "/", "~")) or source.count("/") != 1:
        name, example = (kind.name, kind.example) if kind else ("DiT", DIT.example)
        raise UserError(
            f"{source} does not exist. Give the folder of a diffusers {name} pipeline or a hub id such as {example}."
        )
    return None


@contextmanager
def _user_errors(source: str, folder: Path | None, what: str) -> Iterator[None]:
    """Turn whatever goes wrong while loading into an error that says what to do."""
    try:
        yield
    except Exception as error:  # the hub client's errors share no base class
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        count = 2 if lines and lines[0].endswith(":") else 1  # a headline alone says nothing
        reason = " ".join(lines[:count]).rstrip(".") or type(error).__name__
        if folder is not None:
            raise UserError(
                f"{folder} cannot be loaded as a {what} pipeline: {reason}. If its files are not whole, or not of one "
                "model, fetch the folder again (`hf download ID --local-dir FOLDER`)."
            ) from error
        if _is_gated(error):
            raise UserError(
                f"{source} is gated. Accept its terms at https://huggingface.co/{source}, then log in with "
                f"`hf auth login`. Without access from here, do both and `hf download {source} --local-dir FOLDER` on "
                "another machine, copy FOLDER here and give its path instead."
            ) from error
        if "safetensors" in reason:
            reason += " (weights of a variant alone need prior.init_args.variant, e.g. fp16; pickles are not opened)"
        if constants.HF_HUB_OFFLINE:
            reason += " (HF_HUB_OFFLINE is set, so that nothing is downloaded)"
        raise UserError(
            f"{source} is no folder here, and loading it from the Hugging Face hub failed: {reason}. Without "
            f"access, run `hf download {source} --local-dir FOLDER` on a machine that has it, copy FOLDER "
            "here and give its path instead."
        ) from error


def _is_gated(error: BaseException | None) -> bool:
    """Say whether an error, or one that led to it, is that terms were not accepted."""
    while error is not None:
        if isinstance(error, GatedRepoError):
            return True
        error = error.__cause__ or error.__context__
    return False


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the loading bars, and warnings such as that JSON keeps the numbers of classes as text."""
    libraries = (diffusers_logging, transformers_logging)
    before = [(each.get_verbosity(), each.is_progress_bar_enabled()) for each in libraries]
    for each in libraries:
        each.set_verbosity(logging.CRITICAL)  # what goes wrong is raised, too
        each.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            # diffusers hands the hub client an argument that it no longer has a use for.
            warnings.filterwarnings("ignore", message=".*local_dir_use_symlinks")
            yield
    finally:
        for each, (verbosity, bar) in zip(libraries, before, strict=True):
            each.set_verbosity(verbosity)
            if bar:
                each.enable_progress_bar()


def _check_scaling(vae: Any, source: str) -> None:
    """Refuse scaling that is no number, or that could not be undone."""
    for name, default in (("scaling_factor", 1.0), ("shift_factor", 0.0)):
        value = vae.get(name)
        value = default if value is None else value
        number = isinstance(value, int | float) and math.isfinite(value)
        if not number or (name == "scaling_factor" and value <= 0):
            what = "a positive number" if name == "scaling_factor" else "a number"
            raise UserError(
                f"{source}: {name} in vae/config.json must be {what}, not {value!r}. Take the config.json that these "
                "weights were published with."
            )


def _check_dit(pipeline: Any, source: str) -> None:
    """Refuse an autoencoder and a transformer that do not belong together."""
    vae, dit = pipeline.vae.config, pipeline.transformer.config
    if getattr(dit, "num_embeds_ada_norm", None) is None:
        raise UserError(
            f"{source}: transformer/config.json has no num_embeds_ada_norm, so it is no DiT."
        )
    side, patch = dit.sample_size, dit.patch_size
    if not isinstance(side, int) or side < 1 or side % patch:
        raise UserError(
            f"{source}: transformer/config.json has sample_size {side}, which patches of {patch} (patch_size) do not "
            "fill. Take the config.json that these weights were published with."
        )
    if vae.latent_channels != dit.in_channels:
        raise UserError(
            f"{source}: the VAE has {vae.latent_channels} latent channels, the transformer {dit.in_channels}."
        )
    if dit.out_channels not in (None, dit.in_channels, 2 * dit.in_channels):
        raise UserError(
            f"{source}: {dit.out_channels} output channels fit neither noise nor noise and variance."
        )
    predicted = dit.out_channels == 2 * dit.in_channels
    check_variance(pipeline.scheduler, predicted, source)


# Settings of a UNet that wants more than latents, time and the text's embedding.
_FURTHER_INPUTS = {
    "class_embed_type": "a class label or another vector",
    "num_class_embeds": "a class label",
    "addition_embed_type": "further embeddings (as Stable Diffusion XL's does)",
    "encoder_hid_dim_type": "the output of a projection",
}


def check_inputs(unet: Mapping[str, Any], source: str) -> None:
    """Refuse a UNet that wants more than latents, time and a prompt's embedding.

    Args:
        unet: Its configuration.
        source: The model, for the error.

    Raises:
        UserError: If it does.
    """
    for name, what in _FURTHER_INPUTS.items():
        if unet.get(name) is not None:
            raise UserError(
                f"{source}: unet/config.json has {name} {unet.get(name)!r}, so that the UNet wants {what} beside the "
                "prompt. Take a Stable Diffusion 1 or 2 that is told classes by prompts alone."
            )


def _check_stable_diffusion(pipeline: Any, source: str) -> None:
    """Refuse parts that do not belong together."""
    vae, unet, text = pipeline.vae.config, pipeline.unet.config, pipeline.text_encoder.config
    if not vae.latent_channels == unet.in_channels == unet.out_channels:
        raise UserError(
            f"{source}: the VAE has {vae.latent_channels} latent channels, the UNet takes {unet.in_channels} and "
            f"gives {unet.out_channels}. Models for inpainting or upscaling do not fit."
        )
    if unet.cross_attention_dim != text.hidden_size:
        raise UserError(
            f"{source}: the text encoder gives {text.hidden_size} values a token, the UNet reads "
            f"{unet.cross_attention_dim}."
        )
    if len(pipeline.tokenizer) > text.vocab_size:
        raise UserError(
            f"{source}: the tokenizer has {len(pipeline.tokenizer)} tokens, the text encoder {text.vocab_size}."
        )
    if not isinstance(unet.sample_size, int):
        raise UserError(
            f"{source}: unet/config.json has sample_size {unet.sample_size}, not a side."
        )
    if unet.time_cond_proj_dim is not None:
        raise UserError(f"{source}: guidance is distilled into this UNet; take the model it is of.")
    check_inputs(unet, source)
    check_variance(pipeline.scheduler, False, source)


DIT = PipelineFormat(
    "DiT", DiTPipeline, ("DiTPipeline",), PARTS, "facebook/DiT-XL-2-256", _check_dit
)
STABLE_DIFFUSION = PipelineFormat(
    "Stable Diffusion",
    StableDiffusionImg2ImgPipeline,
    ("StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline"),
    STABLE_DIFFUSION_PARTS,
    "stable-diffusion-v1-5/stable-diffusion-v1-5",
    _check_stable_diffusion,
    {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False},
    _STABLE_DIFFUSION_SCHEDULE,
)
FORMATS = (DIT, STABLE_DIFFUSION)
