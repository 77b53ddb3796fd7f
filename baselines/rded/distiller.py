"""Crops of real images that a teacher recognises best."""

from torch import Tensor

from baselines.patch_scores import TeacherScore
from baselines.patches import PatchMethod
from ddoq.costs.stages import forward_stage
from ddoq.costs.workload import Parts, Sizes, Stage


class RDED(PatchMethod):
    """Keep of each class the crops on which the teacher's cross-entropy is lowest, one of each image of a random pool.

    One pass, nothing is optimised. Images of 128 pixels and more hold four crops each.

    Source: P. Sun, B. Shi, D. Yu and T. Lin, *On the Diversity and Realism of Distilled Dataset: An Efficient Dataset
    Distillation Paradigm*, CVPR 2024; constants from the official repository LINs-lab/RDED at 3f6453d.

    Args:
        ipc: Stored images per class.
        seed: Decides pools and crops.
        pool: Training images of each class that crops are proposed of; all where a class has fewer.
        crops: Crops of each image.
        crop_scale: Least and greatest share of an image's area that a crop has.
        factor: Patches along a side of a stored image; None takes 2 from 128 pixels on and 1 below.
        source_size: Side of the images that are cropped, decoded anew where their source is larger; None takes twice the
            dataset's from 128 pixels on and the dataset's below.
        batch_size: Crops a batch for the teacher.
    """

    method = "rded"

    def __init__(
        self,
        ipc: int,
        seed: int = 0,
        pool: int = 300,
        crops: int = 5,
        crop_scale: tuple[float, float] = (0.08, 1.0),
        factor: int | None = None,
        source_size: int | None = None,
        batch_size: int = 256,
    ) -> None:
        super().__init__(ipc, seed, pool, crops, crop_scale, factor, source_size, batch_size)

    @property
    def needs_teacher(self) -> bool:
        """It scores the crops."""
        return True

    def patch_score(self, label: int) -> TeacherScore:
        """Return the teacher's cross-entropy."""
        assert self.teacher is not None
        return TeacherScore(self.teacher, self.device, self.batch_size)

    def choose(self, patches: Tensor, scores: Tensor, count: int, label: int) -> Tensor:
        """Choose the lowest scores; of equal ones the first."""
        return scores.argsort(stable=True)[:count]

    def workload(self, sizes: Sizes, parts: Parts) -> list[Stage] | None:
        """Show the teacher every crop of the pools."""
        if parts.teacher is None:
            return None
        passes, files = self.pooled(sizes) * self.crops, self.stored(sizes)
        batch = self.batch_size
        return [forward_stage("score", "teacher", parts.teacher, sizes, passes, batch, files=files)]
