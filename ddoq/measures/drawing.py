"""Images of a prior to measure: samples from nothing but noise, and latents decoded without any diffusion."""

from collections.abc import Callable

import torch
from torch import Tensor

from ddoq.console import Progress
from ddoq.priors.base import Prior, Sampling
from ddoq.seeding import generator_for

# Brings images in [0, 1] of the prior's size, float (n, 3, h, w), to what is stored: uint8 of the dataset's size.
Finish = Callable[[Tensor], Tensor]


@torch.no_grad()
def draw_samples(
    prior: Prior,
    per_class: int,
    num_classes: int,
    *,
    seed: int,
    sampling: Sampling,
    batch_size: int,
    finish: Finish,
) -> Tensor:
    """Draw images of every class from noise.

    The start is a latent of zeros, noised all the way whatever ``sampling.strength`` says: noise, and nothing of any image.
    Each image has a generator of its own (seed, class, number in the class), so that it depends neither on its batch nor
    on how many others are drawn.

    Args:
        prior: The prior, on any device.
        per_class: Images a class.
        num_classes: Classes, from 0.
        seed: Decides the noise.
        sampling: Guidance and steps.
        batch_size: Images at once.
        finish: See :data:`Finish`.

    Returns:
        uint8 ``(num_classes * per_class, 3, h, w)`` on the CPU, class by class.
    """
    whole = Sampling(1.0, sampling.guidance_scale, sampling.num_inference_steps)
    labels = torch.arange(num_classes).repeat_interleave(per_class)
    numbers = torch.arange(per_class).repeat(num_classes)
    what = f"samples from noise, guidance {sampling.guidance_scale:g}"
    progress = Progress(what, len(labels), unit="images")
    parts = []
    for positions in torch.arange(len(labels)).split(batch_size):
        pairs = zip(labels[positions].tolist(), numbers[positions].tolist(), strict=True)
        generators = [generator_for(seed, "sample", label, number) for label, number in pairs]
        zeros = torch.zeros(len(positions), *prior.latent_shape)
        images = prior.generate(zeros, labels[positions], generators=generators, sampling=whole)
        parts.append(finish(images).cpu())
        progress.update(int(positions[-1]) + 1)
    return torch.cat(parts)


@torch.no_grad()
def decode_plainly(prior: Prior, latents: Tensor, *, batch_size: int, finish: Finish) -> Tensor:
    """Decode latents as they are, without diffusion.

    Args:
        prior: The prior, on any device.
        latents: Float ``(n, *latent_shape)``.
        batch_size: Images at once.
        finish: See :data:`Finish`.

    Returns:
        uint8 ``(n, 3, h, w)`` on the CPU.
    """
    return torch.cat([finish(prior.decode(part)).cpu() for part in latents.split(batch_size)])
