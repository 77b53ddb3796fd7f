"""The data of a study: latents and images of every class."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ddoq.data import ImageDataModule
from ddoq.errors import UserError
from ddoq.latents.cache import LatentCache
from ddoq.latents.quantization import LatentQuantization
from ddoq.priors.base import Prior
from ddoq.seeding import generator_for


@dataclass(frozen=True)
class ClassPoints:
    """What stands for a class.

    Attributes:
        train: float32 ``(n, d)``, its training latents.
        held_out: float32 ``(m, d)``, its test latents.
        positions: int64 ``(n,)``, of the training images behind them.
    """

    train: Tensor
    held_out: Tensor
    positions: Tensor


def load_points(
    data: ImageDataModule,
    prior: Prior,
    method: LatentQuantization,
    output: Path,
    count: int,
    device: torch.device,
) -> list[ClassPoints]:
    """Encode both splits as the method does, or read what is cached.

    Args:
        data: The dataset, set up.
        prior: The encoder, on ``device``.
        method: Says how images are encoded.
        output: The output folder, which holds the cache.
        count: Points of a class to keep, at most, of either split.
        device: Where points shall be.

    Returns:
        One entry a class.

    Raises:
        UserError: If a class has fewer than two training images.
    """
    held_out = data.with_train(data.whole_test)
    caches = [
        LatentCache(
            output,
            prior,
            part,
            posterior=method.posterior,
            seed=method.seed,
            stretch=method.stretch,
        )
        for part in (data, held_out)
    ]
    chosen = []
    for cache in caches:
        cache.announce(range(data.num_classes))
        classes = []
        for label in range(data.num_classes):
            latents = cache.obtain(label, batch_size=method.batch_size, device=device).values
            generator = generator_for(0, "theory", "points", label)
            kept = torch.randperm(len(latents), generator=generator)[:count].sort().values
            classes.append((latents[kept].to(device).float().flatten(1), kept))
        cache.finish()
        chosen.append(classes)
    points = [
        ClassPoints(train, unseen, data.train.of_class(label)[kept])
        for label, ((train, kept), (unseen, _)) in enumerate(zip(*chosen, strict=True))
    ]
    for label, part in enumerate(points):
        if len(part.train) < 2:
            raise UserError(
                f"Class '{data.classes[label].name}' of {data.name} has {len(part.train)} training image: a measure "
                "needs two at least."
            )
    return points
