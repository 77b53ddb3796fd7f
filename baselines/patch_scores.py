"""How well crops of real images stand for their class: in the eyes of a teacher, or of a diffusion model."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ddoq.console import Progress
from ddoq.data import ImageSplit
from ddoq.images import to_float
from ddoq.priors.base import Prior
from ddoq.seeding import generator_for
from ddoq.selection.patches import box_means, cut_patches
from ddoq.teachers import Teacher


@dataclass(frozen=True)
class Proposals:
    """Crops that are proposed of real images of one class.

    Attributes:
        label: The class.
        split: Where the images come from.
        positions: int64 ``(n,)``: of the images in the split.
        numbers: int64 ``(n,)``: of the images in their class; draws are keyed by them.
        images: uint8 ``(n, 3, h, w)``.
        boxes: int64 ``(n, m, 4)``: crops of each image, see :mod:`ddoq.selection.patches`.
        side: Pixels of the side that a crop is brought to.
    """

    label: int
    split: ImageSplit
    positions: Tensor
    numbers: Tensor
    images: Tensor
    boxes: Tensor
    side: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images."""
        return self.images.shape[-2], self.images.shape[-1]


class PatchScore(ABC):
    """Scores crops: of an image the one with the lowest score is kept, of a class the patches with the lowest."""

    @abstractmethod
    def score(self, proposals: Proposals) -> Tensor:
        """Score crops of real images.

        A score depends on its image and its box alone, not on what else is proposed or in which order.

        Args:
            proposals: The crops.

        Returns:
            Float ``(n, m)`` on the CPU; the lowest are the best.

        Raises:
            NotFiniteError: If a network answers with NaN or infinity.
        """


class TeacherScore(PatchScore):
    """The cross-entropy of a teacher on a crop: low where the teacher is sure of the class (RDED).

    A crop that is smaller than the teacher's images stands in the middle of one, surrounded by the mean colour, which a
    normalised image has at zero.

    Args:
        teacher: Its answers.
        device: Where it is.
        batch_size: Crops that it sees together.
    """

    def __init__(self, teacher: Teacher, device: torch.device, batch_size: int = 256) -> None:
        self.teacher = teacher
        self.device = device
        self.batch_size = batch_size

    def score(self, proposals: Proposals) -> Tensor:
        """Show the teacher every crop; see :meth:`PatchScore.score`."""
        n, m = proposals.boxes.shape[:2]
        of = torch.arange(n).repeat_interleave(m)
        entropies = []
        for batch in torch.arange(n * m).split(self.batch_size):
            boxes = proposals.boxes.flatten(0, 1)[batch]
            patches = cut_patches(proposals.images[of[batch]], boxes, proposals.side)
            logits = self.teacher(self.framed(patches.to(self.device)))
            self.teacher.check_logits(bool(torch.isfinite(logits).all()))
            labels = torch.full((len(batch),), proposals.label, device=self.device)
            entropies.append(F.cross_entropy(logits, labels, reduction="none").cpu())
        return torch.cat(entropies).reshape(n, m)

    def framed(self, patches: Tensor) -> Tensor:
        """Put patches ``(n, 3, s, s)`` in the middle of images of the teacher's size and mean colour."""
        side, size = patches.shape[-1], self.teacher.image_size
        if side == size:
            return patches
        mean = torch.tensor(self.teacher.mean, dtype=patches.dtype, device=patches.device)
        framed = mean.reshape(1, 3, 1, 1).repeat(len(patches), 1, size, size)
        first = (size - side) // 2
        framed[..., first : first + side, first : first + side] = patches
        return framed


class DiffusionScore(PatchScore):
    r"""How much better a diffusion model sees the noise on an image when it is told the class, where a crop lies (DDPS).

    The latent of the whole image is noised, and the model predicts the noise with and without the class. At every location
    of the latent the squared error with the class, less that without, is low where the class explains what is there. Its
    mean over the crop is the score.

    Args:
        prior: The diffusion model with its encoder.
        device: Where it is.
        seed: Decides the noise.
        levels: Noise levels, as shares of the noise schedule in (0, 1]; their maps are averaged.
        draws: Noises of an image at each level; likewise.
        batch_size: Images that the model sees together.
        what: The work, for lines of progress.
    """

    def __init__(
        self,
        prior: Prior,
        device: torch.device,
        *,
        seed: int,
        levels: Sequence[float],
        draws: int = 1,
        batch_size: int = 64,
        what: str = "patches",
    ) -> None:
        self.prior = prior
        self.device = device
        self.seed = seed
        self.levels = levels
        self.draws = draws
        self.batch_size = batch_size
        self.what = what

    def score(self, proposals: Proposals) -> Tensor:
        """Make the map of every image and average it over the crops; see :meth:`PatchScore.score`."""
        split = proposals.split.at_size(self.prior.image_size)
        progress = Progress(self.what, len(proposals.positions), unit="images")
        maps = []
        for rows in torch.arange(len(proposals.positions)).split(self.batch_size):
            images = split.load(proposals.positions[rows].tolist())
            latents = self.prior.encode(to_float(images.to(self.device)))
            numbers = proposals.numbers[rows].tolist()
            maps.append(self.maps(latents, proposals.label, numbers).cpu())
            progress.update(int(rows[-1]) + 1)
        return box_means(torch.cat(maps), proposals.boxes, proposals.size)

    def maps(self, latents: Tensor, label: int, numbers: Sequence[int]) -> Tensor:
        """Map where the class explains latents of its images.

        Args:
            latents: Float ``(n, *latent_shape)``.
            label: The class.
            numbers: Of the images in the class; they key the noise.

        Returns:
            float32 ``(n, h, w)``: the squared error of the noise that is predicted for the class, less that of the noise
            that is predicted without class, both averaged over channels, levels and draws.
        """
        classes = torch.full((len(latents),), label, device=self.device)
        rounds = [(level, draw) for level in self.levels for draw in range(self.draws)]
        total = torch.zeros(len(latents), *latents.shape[-2:], device=self.device)
        for level, draw in rounds:
            noise = self._noise(latents.shape[1:], label, numbers, level, draw)
            told, untold = (
                (self.prior.predict_noise(latents, noise, level, ids) - noise).square().mean(1)
                for ids in (classes, None)
            )
            total += told - untold
        return total / len(rounds)

    def _noise(
        self, shape: Sequence[int], label: int, numbers: Sequence[int], level: float, draw: int
    ) -> Tensor:
        """Draw the noise of every image from a generator of its own."""
        keys = (f"level {level!r}", draw)
        drawn = [
            torch.randn(
                tuple(shape), generator=generator_for(self.seed, "patch-noise", label, n, *keys)
            )
            for n in numbers
        ]
        return torch.stack(drawn).to(self.device)


def passes(levels: Sequence[float], draws: int) -> int:
    """Count how often an image goes through the diffusion model to be scored.

    Example:
        >>> passes((0.3, 0.6), 2)
        8
    """
    return math.prod((2, len(levels), draws))
