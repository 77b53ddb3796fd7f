"""What a teacher sees in images: the class that it names, how sure it is of the intended one, and its features."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ddoq.console import Progress
from ddoq.data.splits import ImageSplit
from ddoq.errors import UserError
from ddoq.images import to_float
from ddoq.networks.features import captured_features
from ddoq.teachers.teacher import Teacher


@dataclass(frozen=True)
class Seen:
    """What a teacher sees in labelled images, in their order and on the CPU.

    Attributes:
        named: int64 ``(n,)``, the class of the largest logit.
        confidence: float32 ``(n,)``, the probability of the intended class.
        features: float32 ``(n, d)``, what the teacher's last layer multiplies.
        labels: int64 ``(n,)``, the intended classes.
    """

    named: Tensor
    confidence: Tensor
    features: Tensor
    labels: Tensor

    @property
    def recognised(self) -> float:
        """Share of images of which the teacher names the intended class, in [0, 1]."""
        return float((self.named == self.labels).double().mean())

    def __len__(self) -> int:
        """Count the images."""
        return len(self.labels)


@torch.no_grad()
def show(teacher: Teacher, split: ImageSplit, batch_size: int = 256) -> Seen:
    """Show images to a teacher.

    Args:
        teacher: Runs on the device where it is, and normalises as it was trained.
        split: uint8 images of the teacher's size with the classes that they shall show: real ones, or a
            :class:`ddoq.data.TensorSplit` of decoded ones.
        batch_size: Images at once; it changes nothing but rounding, speed and memory.

    Returns:
        What it sees.

    Raises:
        UserError: If there is no image, if one has another size or a class that the teacher does not know, or if the
            network has no last linear layer.
        NotFiniteError: If a logit is NaN or infinite.
    """
    if len(split) == 0:
        raise UserError("Recognition needs at least one image.")
    low, high = int(split.labels.min()), int(split.labels.max())
    if low < 0 or high >= teacher.num_classes:
        raise UserError(
            f"The teacher {teacher.arch} knows labels 0 to {teacher.num_classes - 1}, but an image has "
            f"{low if low < 0 else high}."
        )
    device = next(iter(teacher.buffers())).device
    progress = Progress(f"teacher {teacher.arch}: features", len(split), unit="images")
    named, confidence, features = [], [], []
    for positions in torch.arange(len(split)).split(batch_size):
        images = to_float(split.load(positions.tolist()).to(device))
        with captured_features(teacher.network) as captured:
            logits = teacher(images)
        teacher.check_logits(bool(torch.isfinite(logits).all()))
        labels = split.labels[positions].to(device)
        named.append(logits.argmax(1).cpu())
        confidence.append(logits.softmax(1).gather(1, labels[:, None])[:, 0].cpu())
        features.append(captured[-1].float().cpu())
        progress.update(int(positions[-1]) + 1)
    return Seen(torch.cat(named), torch.cat(confidence), torch.cat(features), split.labels.clone())
