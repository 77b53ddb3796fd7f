"""What is handed on from stage to stage where a set is learnt in several: earlier images, and how networks learn from them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ddoq.optimisation.learning import learn
from ddoq.storage.fingerprints import hash_config, hash_tensors


@dataclass(frozen=True)
class StageSet:
    """What one stage made.

    Attributes:
        images: Float ``(n, 3, h, w)``, in the space that they were optimised in.
        labels: int64 ``(n,)``, on the same device.
        lr: The students' learning rate that was learned with them; None where none was.
    """

    images: Tensor
    labels: Tensor
    lr: float | None = None


@dataclass(frozen=True)
class WarmUp:
    """How networks learn from the images of earlier stages before they judge those of the next one.

    Attributes:
        networks: How many are trained a stage, where a step draws a network; steps take them in turn.
        epochs: Passes over the images of each stage and those before it.
        lr: Step size, where no stage has learned one.
        momentum: Of the descent.
        batch_size: Images a step.
    """

    networks: int
    epochs: int
    lr: float
    momentum: float
    batch_size: int


@dataclass(frozen=True)
class Earlier:
    """The stages before one.

    Attributes:
        sets: What each of them made, in their order; at least one.
        warm_up: How networks learn from them.
        root: The output folder.
        where: Arguments of ``lightning.Trainer`` that say where to run.
    """

    sets: tuple[StageSet, ...]
    warm_up: WarmUp
    root: Path
    where: Mapping[str, Any]

    @property
    def number(self) -> int:
        """Of the stage that comes next; the first is 0."""
        return len(self.sets)

    @property
    def images(self) -> Tensor:
        """All of them, float ``(n, 3, h, w)``, stage by stage."""
        return torch.cat([made.images for made in self.sets])

    @property
    def labels(self) -> Tensor:
        """Theirs, int64 ``(n,)``."""
        return torch.cat([made.labels for made in self.sets])

    def of_class(self, label: int) -> Tensor:
        """Return the images of a class, stage by stage."""
        return self.images[self.labels == label]

    @property
    def fingerprint(self) -> str:
        """Hash of all that decides what networks have learnt."""
        tensors = {"images": self.images, "labels": self.labels}
        rates = [made.lr for made in self.sets]
        sizes = [len(made.labels) for made in self.sets]
        return hash_config(
            {**vars(self.warm_up), "sets": hash_tensors(tensors), "lr": rates, "sizes": sizes}
        )

    def teach(
        self,
        network: nn.Module,
        kinds: Sequence[str],
        generator: Callable[[int, str, int], torch.Generator],
    ) -> None:
        """Let a network learn from the first stage, then from the first two, and so on, as students of the set do.

        Args:
            network: A classifier on the device of the images; its weights change, its mode does not.
            kinds: Of Siamese augmentation; empty for none.
            generator: Makes the generator of a draw, of a stage, its purpose and the epoch.
        """
        for stage in range(self.number):
            known = self.sets[: stage + 1]
            rate = known[-1].lr
            learn(
                network,
                torch.cat([made.images for made in known]),
                torch.cat([made.labels for made in known]),
                epochs=self.warm_up.epochs,
                lr=self.warm_up.lr if rate is None else rate,
                batch_size=self.warm_up.batch_size,
                kinds=kinds,
                generator=partial(generator, stage),
                momentum=self.warm_up.momentum,
            )
