"""Where a generator comes from; the decoder of the run's prior is one."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ddoq.costs.stages import device_of as device_of_network
from ddoq.costs.workload import Parts, Sizes, Stage
from ddoq.data import ImageDataModule
from ddoq.distillation.ingredient import Ingredient
from ddoq.errors import UserError
from ddoq.priors.base import Prior
from ddoq.priors.generators import DecoderGenerator, Generator, Split
from ddoq.priors.generators.autoencoder import decoder_splits
from ddoq.priors.generators.base import check_generator
from ddoq.priors.latent import LatentDiffusionPrior
from ddoq.storage.fingerprints import hash_module

KEY = "generator"  # what methods call it

# A network without values, and what sends so many blank latents through it and a gradient back.
Counted = tuple[nn.Module, Callable[[nn.Module, int], Any]]


class GeneratorSource(Ingredient):
    """Says where a generator comes from."""

    @property
    def needs_prior(self) -> bool:
        """Whether :meth:`give` must be given a prior."""
        return False

    def give(self, data: ImageDataModule, prior: Prior | None) -> None:
        """Take what the run has, before anything is prepared.

        Args:
            data: The dataset, set up.
            prior: Of the run, where one is needed.

        Raises:
            UserError: If the generator cannot be had of it, or does not fit the dataset.
        """

    @abstractmethod
    def splits(self, data: ImageDataModule) -> tuple[Split, ...] | None:
        """List where the generator can be split; None where that is not known before :meth:`give`."""

    def planned(self, sizes: Sizes, parts: Parts) -> tuple[Split, ...] | None:
        """List where it can be split, from sizes and networks without values; None where that is not known."""
        return None

    @abstractmethod
    def generator(self) -> Generator:
        """Return the generator, in evaluation mode; its weights ask for no gradients. Needs :meth:`prepare`."""

    def numbers(self, labels: Tensor) -> Tensor:
        """Map the dataset's labels to the generator's classes, int64 ``(n,)``."""
        return labels

    @property
    @abstractmethod
    def knowledge(self) -> str:
        """What a set made with it knows beyond its budget, for its row. Needs :meth:`prepare`."""

    def counted(self, sizes: Sizes, parts: Parts) -> Counted | None:
        """Return what a pass through all layers and back takes; None where that is unknown."""
        return None


class PriorDecoder(GeneratorSource):
    """The decoder of the run's prior, Stable Diffusion's, a DiT's or a trained one; see the key ``prior``.

    Latents begin with the real images that the method would begin with, encoded.
    """

    _given: DecoderGenerator | None = None
    _prior: str = ""

    @property
    def needs_prior(self) -> bool:
        """True."""
        return True

    def give(self, data: ImageDataModule, prior: Prior | None) -> None:
        """Take the prior's decoder; see :meth:`GeneratorSource.give`."""
        if not isinstance(prior, LatentDiffusionPrior):
            raise UserError(
                f"{KEY}: PriorDecoder splits the autoencoder of a latent diffusion prior, but the prior is a "
                f"{type(prior).__name__}, which has none: give another `prior`, or another {KEY}."
            )
        made = DecoderGenerator(prior)
        check_generator(made.image_size, None, made.origin, data.image_size, data.num_classes)
        self._given = made
        folder = Path(prior.origin)  # where a folder lies is nobody's business but this machine's
        name = folder.name if folder.is_dir() else prior.origin
        self._prior = f"{name} (fingerprint {prior.fingerprint})"

    def prepare(self, data: ImageDataModule, folder: Path, where: Mapping[str, Any]) -> None:
        """Prepare nothing: the prior is there."""

    @property
    def fingerprint(self) -> str:
        """Hash of the autoencoder's weights."""
        return hash_module(self.generator())

    def splits(self, data: ImageDataModule) -> tuple[Split, ...] | None:
        """Return those of the decoder, once the prior is there."""
        return None if self._given is None else self._given.splits

    def generator(self) -> Generator:
        """Return the decoder."""
        if self._given is None:
            raise RuntimeError("There is no prior yet: call give() first.")
        return self._given

    @property
    def knowledge(self) -> str:
        """Which prior's decoder it is."""
        return f"decoder of the prior {self._prior}"

    def workload(self, sizes: Sizes) -> list[Stage]:
        """Take nothing: the prior is counted with the run."""
        return []

    def planned(self, sizes: Sizes, parts: Parts) -> tuple[Split, ...] | None:
        """Return those of the decoder."""
        if parts.prior is None:
            return None
        return decoder_splits(parts.prior.vae, parts.prior.latent_shape[1])

    def counted(self, sizes: Sizes, parts: Parts) -> Counted | None:
        """Count the whole decoder."""
        if parts.prior is None:
            return None
        shape = parts.prior.latent_shape

        def run(vae: Any, count: int) -> None:
            latents = torch.zeros(count, *shape, device=device_of_network(vae))
            vae.eval().requires_grad_(False)
            pull_through(lambda leaf: vae.decode(leaf.to(vae.dtype)).sample, latents)

        return parts.prior.vae, run


def pull_through(decode: Callable[[Tensor], Tensor], latents: Tensor) -> None:
    """Go forward without a graph, forward again, and back to the latents."""
    with torch.no_grad():
        decode(latents)
    leaf = latents.requires_grad_()
    with torch.enable_grad():
        torch.autograd.grad(decode(leaf).float().sum(), leaf)
