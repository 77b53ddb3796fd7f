"""The product of distillation: images, labels and weights in one folder, with the record of how they were made."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddoq.errors import UserError
from ddoq.storage.files import load_tensors, read_json, save_tensors, write_json
from ddoq.storage.fingerprints import hash_tensors
from ddoq.storage.run_folder import SetFolder

FORMAT = 1  # raised when a reader of the old layout would misread the new one


@dataclass
class DistilledSet:
    """Images with hard labels and weights.

    Attributes:
        images: uint8 ``(n, 3, h, w)``.
        labels: int64 ``(n,)``, indices into ``class_names``.
        weights: float32 ``(n,)``, at least 0, of mean 1 within each class.
        class_names: Names in label order.
        metadata: How it was made: method, configuration, fingerprints, seed, versions, costs (JSON values).

    Raises:
        UserError: If shapes, dtypes, labels or weights contradict one another.

    Example:
        >>> images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
        >>> tiny = DistilledSet(images, torch.tensor([0, 1]), torch.ones(2), ["cat", "dog"])
        >>> tiny.ipc
        1
    """

    images: Tensor
    labels: Tensor
    weights: Tensor
    class_names: list[str]
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check that the parts fit."""
        n = len(self.images)
        checks = {
            "images must be uint8 (n, 3, h, w)": self.images.dtype == torch.uint8
            and self.images.ndim == 4
            and self.images.shape[1] == 3
            and n > 0,
            "labels must be int64 (n,)": self.labels.dtype == torch.int64
            and self.labels.shape == (n,),
            "weights must be float32 (n,)": self.weights.dtype == torch.float32
            and self.weights.shape == (n,),
        }
        for rule, holds in checks.items():
            if not holds:
                raise UserError(f"Not a distilled set: {rule}.")
        if int(self.labels.min()) < 0 or int(self.labels.max()) >= len(self.class_names):
            raise UserError(
                f"Not a distilled set: labels must lie in 0..{len(self.class_names) - 1}."
            )
        if not bool(torch.isfinite(self.weights).all()) or bool((self.weights < 0).any()):
            raise UserError("Not a distilled set: weights must be finite and at least 0.")
        sums = torch.zeros(len(self.class_names)).index_add(0, self.labels, self.weights)
        counts = torch.bincount(self.labels, minlength=len(self.class_names))
        if not torch.allclose(sums, counts.float(), rtol=1e-3, atol=1e-3):
            raise UserError("Not a distilled set: weights must have mean 1 within each class.")

    def __len__(self) -> int:
        """Count the images."""
        return len(self.images)

    @property
    def ipc(self) -> int:
        """The largest number of images that a class has."""
        return int(torch.bincount(self.labels).max())

    @property
    def effective_ipc(self) -> float:
        r"""Images per class that count: :math:`(\sum_k w_k)^2 / \sum_k w_k^2`, averaged over classes.

        Kish's effective sample size: all images where weights are equal, fewer the more unequal they are.
        """
        sums, squares = (
            torch.zeros(len(self.class_names)).index_add(0, self.labels, values)
            for values in (self.weights, self.weights**2)
        )
        present = squares > 0
        return float((sums[present] ** 2 / squares[present]).mean())

    @property
    def image_bytes(self) -> int:
        """Bytes of the raw images, before any codec."""
        return self.images.numel()

    @property
    def fingerprint(self) -> str:
        """Hash of images, labels and weights (not of the record)."""
        return hash_tensors({"images": self.images, "labels": self.labels, "weights": self.weights})

    def save(self, folder: Path) -> None:
        """Write the set; the tensors come last, so a folder that has them is whole.

        Args:
            folder: Where to; made if need be.
        """
        record = {
            "format": FORMAT,
            "decode": "pixels",  # images are stored as what a student sees, in [0, 255]
            "class_names": self.class_names,
            "fingerprint": self.fingerprint,
            **self.metadata,
        }
        write_json(SetFolder(folder).record, record)
        tensors = {"images": self.images, "label": self.labels, "weight": self.weights}
        save_tensors(SetFolder(folder).tensors, tensors, {"format": FORMAT})

    @classmethod
    def exists(cls, folder: Path) -> bool:
        """Say whether a whole set is stored there."""
        return (SetFolder(folder).tensors).is_file()

    @classmethod
    def load(cls, folder: Path) -> "DistilledSet":
        """Read a set and check it.

        Args:
            folder: What :meth:`save` wrote.

        Raises:
            UserError: If it is missing, corrupt, of another format, or if its parts do not belong together.
        """
        if not folder.is_dir():
            raise UserError(f"{folder} is not a folder with a distilled set.")
        record = read_json(SetFolder(folder).record)
        tensors, _ = load_tensors(SetFolder(folder).tensors)
        missing = {"format", "class_names", "fingerprint"} - set(record)
        if missing:
            raise UserError(f"{SetFolder(folder).record} lacks {', '.join(sorted(missing))}.")
        if record["format"] != FORMAT:
            raise UserError(
                f"{SetFolder(folder).record} has format {record['format']}; this version reads {FORMAT}."
            )
        try:
            parts = (tensors["images"], tensors["label"], tensors["weight"])
        except KeyError as error:
            raise UserError(f"{SetFolder(folder).tensors} lacks the tensor {error}.") from None
        kept = {k: v for k, v in record.items() if k not in ("format", "decode", "fingerprint")}
        loaded = cls(*parts, kept.pop("class_names"), kept)
        if loaded.fingerprint != record["fingerprint"]:
            raise UserError(
                f"{folder}: {SetFolder.TENSORS} and {SetFolder.RECORD} do not belong together (fingerprints differ)."
            )
        return loaded
