"""DDOQ: dataset distillation as optimal quantisation, with the masses of the Voronoi cells as weights."""

from typing import Literal

from torch import Tensor

from ddoq.data import ImageDataModule
from ddoq.distillation.shard import Shard
from ddoq.errors import UserError
from ddoq.latents.quantization import LatentQuantization, Quantizer
from ddoq.priors.base import Sampling
from ddoq.quantization import cell_weights


class DDOQ(LatentQuantization):
    r"""Quantise each class in latent space and weigh every decoded centroid by its cell's mass.

    With :math:`v_k` points in the cell of centroid :math:`k`, an image counts in the student's loss as

    .. math:: w_k = K \, v_k^p / \sum_j v_j^p ,

    which has mean 1 within a class, so that the scale of the loss and the learning rate stay those of
    unweighted methods. :math:`p = 1` is the mass of the paper, :math:`p = 0` is D4M.

    Source: H. Y. Tan and E. Slade, *Dataset Distillation as Pushforward Optimal Quantization*,
    arXiv 2501.07681 (ICLR 2026). Where the paper leaves a choice open, the README of this method says what
    was chosen.

    Args:
        ipc: Images per class.
        seed: Decides seeding of the quantiser and the noise of every image.
        quantizer: How the latents are quantised; ``clvq`` is the paper's own algorithm, ``lloyd`` runs to
            convergence.
        sampling: How the diffusion model decodes.
        batch_size: Images a batch for encoding and for generation.
        posterior: ``mode`` or ``sample``.
        weight_power: The exponent p, in [0, 1].
        counts: ``exact`` takes cell sizes of a final full assignment, ``online`` the counts that ``clvq`` and
            ``d4m`` accumulate while they learn.
        latent_cache: Keep the latents in the output folder; at the same batch size it changes no bit.
    """

    method = "ddoq"

    def __init__(
        self,
        ipc: int,
        seed: int = 0,
        quantizer: Quantizer = Quantizer(),  # noqa: B008 - frozen
        sampling: Sampling = Sampling(),  # noqa: B008 - frozen
        batch_size: int = 64,
        posterior: Literal["mode", "sample"] = "mode",
        weight_power: float = 1.0,
        counts: Literal["exact", "online"] = "exact",
        latent_cache: bool = True,
    ) -> None:
        super().__init__(ipc, seed, quantizer, sampling, batch_size, posterior, latent_cache)
        self.weight_power = weight_power
        self.counts = counts

    def check(self, data: ImageDataModule) -> None:
        """Refuse exponents outside [0, 1] and online counts of a quantiser that has none."""
        super().check(data)
        if not 0 <= self.weight_power <= 1:
            raise UserError(f"weight_power must be in [0, 1], not {self.weight_power}.")
        if self.counts == "online" and self.quantizer.method not in ("clvq", "d4m"):
            raise UserError(
                f"counts: online needs quantizer.method clvq or d4m, not {self.quantizer.method}."
            )

    def weigh(self, shard: Shard) -> Tensor:
        """Weigh images by the masses of their cells."""
        name = "counts" if self.counts == "exact" else "online_counts"
        return cell_weights(shard.extras[name], self.weight_power)
