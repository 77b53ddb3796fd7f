"""The shapes of the released priors, so that their work can be counted without their weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiTTransformer2DModel, PNDMScheduler
from diffusers import UNet2DConditionModel as UNet

from ddoq.costs.prior_networks import PriorNetworks
from ddoq.errors import UserError
from ddoq.storage.files import read_json

# vae/config.json of both repositories below; they differ in sample_size alone, which changes no layer.
_VAE: dict[str, Any] = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
    "norm_num_groups": 32,
}
# unet/config.json of stable-diffusion-v1-5/stable-diffusion-v1-5; Rombach et al. 2022 count 860 M parameters.
_UNET: dict[str, Any] = {
    "sample_size": 64,
    "in_channels": 4,
    "out_channels": 4,
    "layers_per_block": 2,
    "block_out_channels": (320, 640, 1280, 1280),
    "down_block_types": (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
    "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
# text_encoder/config.json of the same: the text half of openai/clip-vit-large-patch14.
_TEXT: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 77,
    "vocab_size": 49408,
}
# transformer/config.json of facebook/DiT-XL-2-256. Peebles and Xie 2023, table 4, count 675 M parameters; diffusers
# gives each of the 28 blocks a copy of what embeds time and class, which makes 750 M.
_DIT: dict[str, Any] = {
    "sample_size": 32,
    "patch_size": 2,
    "in_channels": 4,
    "out_channels": 8,
    "num_layers": 28,
    "num_attention_heads": 16,
    "attention_head_dim": 72,
    "attention_bias": True,
    "activation_fn": "gelu-approximate",
    "norm_type": "ada_norm_zero",
    "norm_elementwise_affine": False,
    "num_embeds_ada_norm": 1000,
}


def _stable_diffusion() -> PriorNetworks:
    from transformers import CLIPTextConfig, CLIPTextModel  # takes seconds

    text = CLIPTextModel(CLIPTextConfig(**_TEXT))
    # scheduler/scheduler_config.json: the number of network passes a step depends on it.
    scheduler = PNDMScheduler(skip_prk_steps=True, steps_offset=1)
    return PriorNetworks(AutoencoderKL(**_VAE), UNet(**_UNET), scheduler, text)


def _dit() -> PriorNetworks:
    return PriorNetworks(AutoencoderKL(**_VAE), DiTTransformer2DModel(**_DIT), DDIMScheduler())


RELEASED: dict[str, Callable[[], PriorNetworks]] = {
    "stable-diffusion-v1-5/stable-diffusion-v1-5": _stable_diffusion,
    "runwayml/stable-diffusion-v1-5": _stable_diffusion,  # where the same files were first
    "facebook/DiT-XL-2-256": _dit,
}


def released_networks(name: str) -> PriorNetworks:
    """Build a released prior without weights, on the meta device: nothing is downloaded and no memory is taken.

    Args:
        name: Its hub id.

    Returns:
        Its networks.

    Raises:
        UserError: If its shapes are not known here.

    Example:
        >>> networks = released_networks("facebook/DiT-XL-2-256")
        >>> networks.latent_shape, networks.image_size
        ((4, 32, 32), 256)
    """
    if name not in RELEASED:
        raise UserError(
            f"The shapes of {name} are not known without its files. Give the folder of a diffusers pipeline, or "
            f"one of {', '.join(RELEASED)}."
        )
    with torch.device("meta"):
        return RELEASED[name]()


def folder_networks(folder: Path) -> PriorNetworks:
    """Build the networks that a diffusers folder describes, on the meta device; no weights are read.

    Args:
        folder: A pipeline's folder.

    Returns:
        Its networks.

    Raises:
        UserError: If a configuration is missing or describes no known network.
    """
    from transformers import CLIPTextConfig, CLIPTextModel

    index = read_json(folder / "model_index.json")
    name = "unet" if "unet" in index else "transformer"
    try:
        kind = getattr(diffusers, index[name][1])
        scheduler = getattr(diffusers, index["scheduler"][1])
        text = None
        with torch.device("meta"):
            vae = AutoencoderKL.from_config(AutoencoderKL.load_config(folder, subfolder="vae"))
            denoiser = kind.from_config(kind.load_config(folder, subfolder=name))
            if "text_encoder" in index:
                text = CLIPTextModel(CLIPTextConfig.from_pretrained(folder / "text_encoder"))
        schedule = scheduler.from_config(scheduler.load_config(folder, subfolder="scheduler"))
    except (AttributeError, KeyError, TypeError, OSError, ValueError) as error:
        raise UserError(
            f"{folder} is no diffusers folder that can be planned for: {error}."
        ) from None
    return PriorNetworks(vae, denoiser, schedule, text)
