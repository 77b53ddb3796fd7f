"""Training of a class-conditional diffusion transformer over latents."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiTTransformer2DModel
from diffusers.models.embeddings import LabelEmbedding
from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import TensorDataset

from ddoq.data.base import ImageDataModule
from ddoq.optimisation.fitting import SeededTraining, count_parameters, fit
from ddoq.optimisation.trainers import device_of
from ddoq.priors.training.config import DiTConfig
from ddoq.priors.training.vae import encode_split
from ddoq.seeding import derive_seed
from ddoq.storage.checkpoints import Checkpoint

# Length of the noise schedule: DDPM's (Ho et al. 2020) and DiT's.
TIMESTEPS = 1000


def build_dit(
    config: DiTConfig, latent_shape: tuple[int, int, int], num_classes: int
) -> DiTTransformer2DModel:
    """Make an untrained transformer, initialised as DiT's authors do (adaLN-Zero).

    diffusers leaves the layers at torch's defaults; DiT (Peebles and Xie 2023, section 3.2) starts every block as
    the identity and the output at zero.

    Args:
        config: Its size.
        latent_shape: Channels, height and width of a latent.
        num_classes: Classes; one more row of the label table stands for "no class".

    Returns:
        A diffusers model.
    """
    channels, side, _ = latent_shape
    dit = DiTTransformer2DModel(
        num_attention_heads=config.heads,
        attention_head_dim=config.head_dim,
        in_channels=channels,
        out_channels=channels,  # DiTPipeline reads it and cannot do with None
        num_layers=config.layers,
        sample_size=side,
        patch_size=config.patch_size,
        num_embeds_ada_norm=num_classes,
    )
    for module in dit.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
    zeroed = [block.norm1.linear for block in dit.transformer_blocks]
    for layer in (*zeroed, dit.proj_out_1, dit.proj_out_2):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    return dit


def build_scheduler(config: DiTConfig) -> DDIMScheduler:
    """Make the scheduler that noises in training and samples afterwards.

    Latents have no fixed range, so predictions are not clipped to [-1, 1].
    """
    return DDIMScheduler(
        num_train_timesteps=TIMESTEPS,
        beta_schedule=config.schedule,
        prediction_type=config.prediction,
        clip_sample=False,
    )


def loss_weights(
    scheduler: DDIMScheduler, times: Tensor, prediction: str, bound: float | None
) -> Tensor:
    r"""Weigh the squared errors of noise levels so that hardly noised latents do not rule the training.

    With the signal-to-noise ratio :math:`s_t = \bar\alpha_t / (1 - \bar\alpha_t)`, an error of the latent counts
    :math:`\min(s_t, \gamma)` times: the noise is weighed by :math:`\min(s_t, \gamma) / s_t`, the velocity by
    :math:`\min(s_t, \gamma) / (s_t + 1)` (Hang et al., Efficient Diffusion Training via Min-SNR Weighting Strategy, 2023).

    Args:
        scheduler: The noise schedule.
        times: int64 ``(n,)``, steps of the schedule.
        prediction: ``epsilon`` or ``v_prediction``.
        bound: :math:`\gamma`; None weighs every level 1.

    Returns:
        float32 ``(n,)`` on the device of ``times``.

    Example:
        >>> loss_weights(DDIMScheduler(), torch.tensor([100, 999]), "epsilon", 5.0)
        tensor([0.5857, 1.0000])
    """
    if bound is None:
        return torch.ones(len(times), device=times.device)
    signal = scheduler.alphas_cumprod.to(times.device, torch.float64)[times]
    ratio = signal / (1 - signal)
    divisor = ratio + 1 if prediction == "v_prediction" else ratio
    weights: Tensor = (ratio.clamp(max=bound) / divisor).float()
    return weights


@contextmanager
def _fast_attention(device: torch.device) -> Iterator[None]:
    """Choose the attention whose backward pass is fast.

    On CPUs torch's fused attention under bfloat16 takes 4 of 10 parts of a step in its backward pass, over as few tokens as
    there are here; written out, a step is 1.3 to 1.7 times as fast (torch 2.14, one core with AVX512-BF16).
    """
    if device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        with sdpa_kernel(SDPBackend.MATH):
            yield
    else:
        yield


class DiTTraining(SeededTraining):
    r"""Minimise the squared error of the predicted noise, :math:`\|\epsilon - \epsilon_\theta(z_t, t, c)\|^2`.

    Classes are hidden here, once an image. diffusers' label embeddings hide them too while training, but every
    block has its own and draws for itself, so that hardly an image would be without a class in all blocks, and the
    unconditional prediction that guidance needs would never be trained. That is switched off.

    Args:
        dit: The model.
        scheduler: The noise schedule.
        config: Steps, learning rate and label dropout.
        seed: Decides noise, times and hidden labels.
    """

    def __init__(
        self, dit: DiTTransformer2DModel, scheduler: DDIMScheduler, config: DiTConfig, seed: int
    ) -> None:
        super().__init__(seed, "dit", config.learning_rate, config.steps)
        self.dit = dit
        self.scheduler = scheduler
        self.label_dropout = config.label_dropout
        self.min_snr = config.min_snr
        self.no_class = dit.config.num_embeds_ada_norm
        for module in dit.modules():
            if isinstance(module, LabelEmbedding):
                module.dropout_prob = 0.0

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the loss of scaled latents ``(n, c, h, w)`` and their labels ``(n,)``."""
        latents, labels = batch
        noise = self.normal(latents.shape)
        times = torch.randint(TIMESTEPS, (len(latents),), generator=self.generator).to(self.device)
        hidden = (
            torch.rand(len(latents), generator=self.generator).to(self.device) < self.label_dropout
        )
        noisy = self.scheduler.add_noise(latents, noise, times)
        target = noise
        if self.scheduler.config.prediction_type == "v_prediction":
            target = self.scheduler.get_velocity(latents, noise, times)
        labels = labels.masked_fill(hidden, self.no_class)
        with _fast_attention(self.device):
            predicted = self.dit(noisy, timestep=times, class_labels=labels).sample
        if self.min_snr is None:
            loss = F.mse_loss(predicted.float(), target)
        else:
            errors = F.mse_loss(predicted.float(), target, reduction="none").mean((1, 2, 3))
            kind = self.scheduler.config.prediction_type
            loss = (errors * loss_weights(self.scheduler, times, kind, self.min_snr)).mean()
        self.record(loss)
        return loss


def train_dit(
    config: DiTConfig,
    vae: AutoencoderKL,
    data: ImageDataModule,
    *,
    seed: int,
    trainer: Mapping[str, Any],
    checkpoint: Checkpoint | None = None,
) -> tuple[DiTTransformer2DModel, DDIMScheduler, dict[str, Any]]:
    """Train a diffusion transformer on the encoded training split; the caller's random state stays as it was.

    Latents are encoded once and held in memory.

    Args:
        config: Size and training.
        vae: The autoencoder, trained; it is moved to the device of the training.
        data: The dataset, set up.
        seed: Decides initial weights, order, noise, times and hidden labels.
        trainer: Keyword arguments for ``lightning.Trainer`` that say where to run.
        checkpoint: Where a killed training is found again; None keeps nothing.

    Returns:
        The averaged model in evaluation mode on the CPU, its scheduler, and a record as JSON values.

    Raises:
        UserError: If the checkpoint cannot be used.
        DivergedError: If losses or weights are not finite.
    """
    latents = encode_split(vae.to(device_of(trainer)), data.train)
    _, channels, height, width = latents.shape
    scheduler = build_scheduler(config)
    with isolate_rng():
        torch.manual_seed(derive_seed(seed, "dit", "weights"))
        dit = build_dit(config, (channels, height, width), data.num_classes)
        module = DiTTraining(dit, scheduler, config, seed)
        done = fit(
            module,
            TensorDataset(latents, data.train.labels),
            batch_size=config.batch_size,
            workers=0,  # the latents are in memory
            trainer=trainer,
            callbacks=[EMAWeightAveraging(decay=config.ema_decay)],
            checkpoint=checkpoint,
            what="prior: diffusion transformer",
            mend=f"Lower prior.init_args.dit.learning_rate (now {config.learning_rate:g}).",
        )
    record = {
        "config": asdict(config),
        "seed": seed,
        "seconds": done.seconds,
        "parameters": count_parameters(dit),
        "losses": done.losses,
    }
    return dit.cpu().eval().requires_grad_(False), scheduler, record
