"""What the training of a prior takes, counted on networks without values."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from diffusers import DDIMScheduler
from torch import nn

from ddoq.costs.flops import count_flops, on_meta
from ddoq.costs.memory import weight_bytes
from ddoq.costs.prior_networks import PriorNetworks
from ddoq.costs.stages import device_of, network_stage
from ddoq.costs.workload import Sizes, Stage
from ddoq.priors.training.config import DiTConfig, VAEConfig
from ddoq.priors.training.dit import build_dit
from ddoq.priors.training.vae import build_vae


def training_workload(
    vae: VAEConfig, dit: DiTConfig, sizes: Sizes, classifier: nn.Module | None = None
) -> tuple[PriorNetworks, list[Stage]]:
    """Describe the training of an autoencoder, the encoding of every image, and the training of a transformer.

    Args:
        vae: The autoencoder and its training.
        dit: The transformer and its training.
        sizes: Of the dataset.
        classifier: Whose features the autoencoder reconstructs, too, on the meta device.

    Returns:
        The networks on the meta device, and the stages.
    """
    image = (3, sizes.image_size, sizes.image_size)
    side = sizes.image_size // vae.downsampling
    latent = (vae.latent_channels, side, side)

    def train_vae(network: nn.Module, count: int) -> None:
        images = torch.zeros(count, *image, device=device_of(network))
        decoded = network(images).sample
        if classifier is None:
            decoded.sum().backward()
        else:
            classifier(images)
            classifier(decoded).sum().backward()

    def train_dit(network: nn.Module, count: int) -> None:
        zeros = torch.zeros(count, dtype=torch.long, device=device_of(network))
        latents = torch.zeros(count, *latent, device=device_of(network))
        network(latents, timestep=zeros, class_labels=zeros).sample.sum().backward()

    with torch.device("meta"):
        networks = PriorNetworks(
            build_vae(vae, sizes.image_size),
            build_dit(dit, latent, sizes.num_classes),
            DDIMScheduler(),
        )
    images = sizes.train_images
    encoding = images * count_flops(lambda: networks.encode(1))
    return networks, [
        _training_stage("prior: train VAE", networks.vae, train_vae, vae, images),
        Stage("prior: encode", "VAE encoder", images, encoding, note="for the DiT"),
        _training_stage("prior: train DiT", networks.denoiser, train_dit, dit, images),
    ]


def _training_stage(
    name: str,
    network: nn.Module,
    run: Callable[[nn.Module, int], Any],
    config: VAEConfig | DiTConfig,
    images: int,
) -> Stage:
    batch = min(config.batch_size, images)
    ghost = on_meta(network)
    stage = network_stage(
        name,
        type(network).__name__,
        network,
        run,
        config.steps * batch,
        batch,
        flops=count_flops(lambda: run(ghost, 2)) // 2,
        copies=3,  # weights, and both moments of AdamW
        files={"weights": weight_bytes(network)},
        note="forward and backward",
    )
    return replace(stage, probe=None)
