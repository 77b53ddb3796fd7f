"""A frozen classifier of real images that knows its classes, its normalisation and its accuracy."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ddoq.data.base import IMAGENET_MEAN, IMAGENET_STD, ImageDataModule
from ddoq.errors import UserError
from ddoq.finite import NotFiniteError, check_weights
from ddoq.networks import Normalize, build_network
from ddoq.precision import without_autocast
from ddoq.storage.files import load_tensors, read_sealed, save_tensors, write_sealed
from ddoq.storage.fingerprints import hash_config, hash_module
from ddoq.storage.folders import check_given_folder

# Raised whenever teacher.json or the meaning of its keys changes.
TEACHER_FORMAT = 1

_WEIGHTS = "model.safetensors"
_RECORD = "teacher.json"
_KEYS = (
    "arch",
    "kwargs",
    "stem",
    "class_names",
    "class_keys",
    "image_size",
    "mean",
    "std",
    "accuracy",
    "accuracy_top5",
    "training",
    "fingerprint",
)


class Teacher(nn.Module):
    """Maps images in [0, 1] to logits; it is always in evaluation mode and its weights are frozen.

    Args:
        network: Takes normalised images; as :func:`ddoq.networks.build_network` built it, then trained.
        arch: The name that it was built by.
        class_names: Readable names in label order.
        class_keys: Keys in label order (:class:`ddoq.data.class_registry.ClassInfo`), by which a dataset is matched.
        image_size: Side in pixels of the images that it takes.
        accuracy: Top-1 on the real test split, in [0, 1].
        accuracy_top5: Top-5 on the real test split, in [0, 1]; None where it is not known.
        mean: Channel means that it subtracts.
        std: Channel standard deviations that it divides by.
        kwargs: Further arguments that it was built with.
        stem: The stem that it was built with.
        training: How it was trained, as JSON values, for the record.

    Attributes:
        network: The network without normalisation.
        num_classes: Number of logits.
        fingerprint: Hash of weights and configuration, taken once, when the object is made.
        warnings: What was noticed when it was obtained; rows that it labels carry it.

    Raises:
        UserError: If the numbers of names and keys differ.

    Example:
        >>> from ddoq.networks import build_network
        >>> network = build_network("convnet2-w8", num_classes=2, image_size=16)
        >>> teacher = Teacher(network, arch="convnet2-w8", class_names=["cat", "dog"], class_keys=["0", "1"],
        ...                   image_size=16, accuracy=0.5)
        >>> teacher(torch.rand(4, 3, 16, 16)).shape
        torch.Size([4, 2])
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        arch: str,
        class_names: Sequence[str],
        class_keys: Sequence[str],
        image_size: int,
        accuracy: float,
        accuracy_top5: float | None = None,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        kwargs: Mapping[str, Any] | None = None,
        stem: str | None = None,
        training: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if len(class_names) != len(class_keys):
            raise UserError(
                f"A teacher with {len(class_names)} class names, but {len(class_keys)} class keys."
            )
        self.arch = arch
        self.kwargs = dict(kwargs or {})
        self.stem = stem
        self.class_names = list(class_names)
        self.class_keys = list(class_keys)
        self.num_classes = len(class_keys)
        self.image_size = image_size
        self.mean = tuple(mean)
        self.std = tuple(std)
        self.accuracy = accuracy
        self.accuracy_top5 = accuracy_top5
        self.training_record = dict(training or {})
        self.warnings: list[str] = []
        self.normalize = Normalize(self.mean, self.std)
        self.network = network.requires_grad_(False)
        self.fingerprint = hash_config(
            {"weights": hash_module(network), "format": TEACHER_FORMAT, **self._configuration()}
        )
        self.eval()

    def _configuration(self) -> dict[str, Any]:
        """Return what decides, together with the weights, which logits an image gets."""
        return {
            "arch": self.arch,
            "kwargs": self.kwargs,
            "stem": self.stem,
            "class_names": self.class_names,
            "class_keys": self.class_keys,
            "image_size": self.image_size,
            "mean": self.mean,
            "std": self.std,
        }

    def train(self, mode: bool = True) -> "Teacher":
        """Stay in evaluation mode: a trainer that switches its whole module must not touch BN statistics."""
        return super().train(False)

    @without_autocast()
    def forward(self, images: Tensor) -> Tensor:
        """Classify images in the precision of the weights, whatever the trainer of a student has chosen.

        Args:
            images: Float in [0, 1], ``(n, 3, image_size, image_size)``.

        Returns:
            float32 logits ``(n, num_classes)``.

        Raises:
            UserError: If images have another size or are not floats; nothing is resized here.
        """
        expected = (3, self.image_size, self.image_size)
        if images.ndim != 4 or tuple(images.shape[1:]) != expected:
            raise UserError(
                f"The teacher takes images of shape (n, {', '.join(map(str, expected))}), "
                f"not {tuple(images.shape)}: resize them, or use a teacher trained at their size."
            )
        if not images.is_floating_point():
            raise UserError(f"The teacher takes float images in [0, 1], not {images.dtype}.")
        parameter = next(self.network.parameters(), None)
        normalized = self.normalize(images)
        logits: Tensor = self.network(
            normalized if parameter is None else normalized.to(parameter.dtype)
        )
        return logits.float()

    def save(self, folder: Path) -> None:
        """Write ``model.safetensors`` and ``teacher.json``.

        Args:
            folder: Where to write; it is made if need be.
        """
        folder.mkdir(parents=True, exist_ok=True)
        save_tensors(folder / _WEIGHTS, self.network.state_dict(), {"arch": self.arch})
        record = {
            "format": TEACHER_FORMAT,
            **self._configuration(),
            "num_classes": self.num_classes,
            "accuracy": self.accuracy,
            "accuracy_top5": self.accuracy_top5,
            "training": self.training_record,
            "fingerprint": self.fingerprint,
        }
        write_sealed(folder / _RECORD, record)

    @classmethod
    def load(cls, folder: Path | str) -> "Teacher":
        """Read what :meth:`save` wrote, and check it.

        Args:
            folder: The folder.

        Returns:
            The teacher, on the CPU.

        Raises:
            UserError: If a file is missing or corrupt, or if weights and record do not belong together.
            NotFiniteError: If weights are NaN or infinite.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise UserError(f"There is no teacher in {folder}: the folder does not exist.")
        check_given_folder(folder, "ddoq-bench teacher")
        path = folder / _RECORD
        network, record = build_from_record(folder)
        tensors, _ = load_tensors(folder / _WEIGHTS)
        try:
            network.load_state_dict(tensors)
        except RuntimeError as error:
            reason = str(error).replace("\n\t", " ")
            raise UserError(
                f"{folder / _WEIGHTS} does not hold the network that {path} describes ({reason})."
            ) from None
        fields = {key: record[key] for key in _KEYS if key != "fingerprint"}
        teacher = cls(network, **fields)
        if teacher.fingerprint != record["fingerprint"]:
            raise UserError(
                f"{path} and {folder / _WEIGHTS} do not belong together, or one of them was edited "
                "(fingerprint mismatch). Restore both, or train the teacher again."
            )
        try:
            teacher.check_finite()
        except NotFiniteError as error:
            raise NotFiniteError(f"{folder / _WEIGHTS}: {error}") from None
        return teacher

    def check_finite(self) -> None:
        """Refuse weights or statistics of batch normalisation that are NaN or infinite.

        Raises:
            NotFiniteError: Naming the first of them.
        """
        mend = "Train it again with a lower learning rate, or use other weights."
        check_weights(self.network, f"The teacher {self.arch}", mend)

    def check_logits(self, finite: bool) -> None:
        """Refuse answers that are NaN or infinite: their arg max is some class all the same.

        Args:
            finite: Whether all logits of some images are finite.

        Raises:
            NotFiniteError: If they are not.
        """
        if not finite:
            raise NotFiniteError(
                f"The teacher {self.arch} gives logits that are not finite (NaN or infinite): train it with a lower "
                "teacher.lr, or use other weights."
            )

    def check_matches(self, data: ImageDataModule) -> None:
        """Refuse a dataset with other classes, another order of them, or another image size.

        Args:
            data: A dataset that is set up.

        Raises:
            UserError: Saying what differs.
        """
        if self.num_classes != data.num_classes:
            raise UserError(
                f"The teacher {self.arch} knows {self.num_classes} classes, but {data.name} has "
                f"{data.num_classes}: use a teacher trained on this dataset."
            )
        keys = data.classes.keys
        if self.class_keys != keys:
            first = next(i for i, key in enumerate(keys) if key != self.class_keys[i])
            what = (
                "the same classes in another order"
                if sorted(keys) == sorted(self.class_keys)
                else "other classes"
            )
            raise UserError(
                f"The teacher {self.arch} was trained on {what} than {data.name} has: label {first} is "
                f"{self.class_keys[first]!r} to the teacher and {keys[first]!r} in the dataset."
            )
        if self.image_size != data.image_size:
            raise UserError(
                f"The teacher {self.arch} takes images of {self.image_size} pixels, but {data.name} has "
                f"{data.image_size}: set the dataset's image_size, or train a teacher at that size."
            )


def build_from_record(folder: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Build the untrained network of a stored teacher.

    Args:
        folder: What :meth:`Teacher.save` wrote; its weights are not read.

    Returns:
        The network, and the record that describes it.

    Raises:
        UserError: If the record is missing or is none of a teacher.
    """
    record = _read_record(folder / _RECORD)
    # Building draws weights that are replaced at once: the caller's generator must not notice.
    with torch.random.fork_rng(devices=[]):
        network = build_network(
            record["arch"],
            len(record["class_keys"]),
            record["image_size"],
            stem=record["stem"],
            **record["kwargs"],
        )
    return network, record


def _read_record(path: Path) -> dict[str, Any]:
    record = read_sealed(path)
    if not isinstance(record, dict) or record.get("format") != TEACHER_FORMAT:
        version = record.get("format") if isinstance(record, dict) else None
        raise UserError(
            f"{path} is not a teacher of format {TEACHER_FORMAT} (found {version}): train the teacher again."
        )
    missing = [key for key in _KEYS if key not in record]
    if missing:
        raise UserError(
            f"{path} lacks {', '.join(missing)}: restore it or train the teacher again."
        )
    if len(record["class_names"]) != len(record["class_keys"]):
        raise UserError(
            f"{path} lists {len(record['class_names'])} class_names, but {len(record['class_keys'])} class_keys."
        )
    return record
