"""The D4M distiller: DDOQ's synthesis without its weights."""

import torch
from torch import Tensor

from ddoq.distiller import Shard
from ddoq.latent_quantization import LatentQuantization


class D4M(LatentQuantization):
    """Quantise each class in latent space and decode the centroids; every image has weight 1.

    With equal settings and seed the images are DDOQ's, bit for bit, and come from the same shards: the
    comparison isolates the weights. ``quantizer: {method: d4m}`` and ``posterior: sample`` switch to what the
    official script does: one pass of ``partial_fit`` over chunks of ``km_expand * ipc`` latents drawn from
    the posterior.

    Source: D. Su et al., *D^4M: Dataset Distillation via Disentangled Diffusion Model*, CVPR 2024; constants
    from the official repository suduo94/D4M at da35d10.
    """

    method = "d4m"

    def weigh(self, shard: Shard) -> Tensor:
        """Weigh all images the same."""
        return torch.ones(len(shard.labels))
