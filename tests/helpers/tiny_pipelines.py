"""Random pipelines of a few thousand weights, built of diffusers' own classes and saved in its folder format."""

import json
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DiTPipeline,
    DiTTransformer2DModel,
    PNDMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer


def build_dit(
    classes: int = 5, learned_sigma: bool = False, seed: int = 0, size: int = 8, **vae
) -> DiTPipeline:
    """Make a random pipeline for images of ``size`` pixels, with latents of 2 values at half their side."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        dit = DiTTransformer2DModel(
            num_attention_heads=2,
            attention_head_dim=8,
            in_channels=2,
            out_channels=4 if learned_sigma else 2,
            num_layers=2,
            sample_size=size // 2,
            patch_size=2,
            num_embeds_ada_norm=classes,
        )
        settings = {"scaling_factor": 0.7, **vae}
        encoder = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(8, 8),
            latent_channels=2,
            norm_num_groups=4,
            sample_size=size,
            **settings,
        )
    scheduler = DDIMScheduler(clip_sample=False, steps_offset=1)
    return DiTPipeline(dit.eval(), encoder.eval(), scheduler)


def write_tokenizer(folder: Path) -> CLIPTokenizer:
    """Write a byte-pair vocabulary of letters and four words, in the layout of the hub."""
    folder.mkdir(parents=True)
    merges = ["c a", "ca t</w>", "d o", "do g</w>"]
    letters = "abcdefghijklmnopqrstuvwxyz,"
    tokens = [*letters, *(c + "</w>" for c in letters), *(m.replace(" ", "") for m in merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 24}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return CLIPTokenizer.from_pretrained(folder)


def build_stable_diffusion(
    folder: Path, seed: int = 0, size: int = 16, **changes
) -> StableDiffusionPipeline:
    """Make a random pipeline for images of ``size`` pixels, with latents of 4 values at half their side."""
    tokenizer = write_tokenizer(folder)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        unet = UNet2DConditionModel(
            sample_size=size // 2,
            block_out_channels=(8, 16),
            layers_per_block=1,
            norm_num_groups=4,
            attention_head_dim=4,
            cross_attention_dim=16,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        )
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(8, 8),
            latent_channels=4,
            norm_num_groups=4,
            sample_size=size,
            scaling_factor=0.18215,
        )
        text = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                max_position_embeddings=24,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
        for name, parameter in text.named_parameters():
            if "norm" not in name:  # the default of 0.02 makes all prompts nearly the same
                torch.nn.init.normal_(parameter, std=0.5)
    # As stable-diffusion-v1-5 ships it.
    scheduler = PNDMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        skip_prk_steps=True,
        steps_offset=1,
    )
    parts = {"vae": vae, "text_encoder": text, "tokenizer": tokenizer, "unet": unet}
    return StableDiffusionPipeline(
        **{**parts, "scheduler": scheduler, **changes},
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
