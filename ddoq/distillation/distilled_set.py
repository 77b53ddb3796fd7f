"""The product of distillation: images, labels and weights in one folder, with the record of how they were made."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddoq.decoding.decoded import Decoded
from ddoq.decoding.decoders import decoder_from
from ddoq.decoding.form import SetForm, SetRecipe
from ddoq.decoding.transform import Transform
from ddoq.distillation.set_files import RESERVED, has_set_files, read_set_files, write_set_files
from ddoq.errors import UserError
from ddoq.images import to_uint8
from ddoq.labels.targets import Targets
from ddoq.storage.damage import DamagedError
from ddoq.storage.files import under_prefix
from ddoq.storage.fingerprints import hash_config, hash_tensors
from ddoq.storage.run_folder import SetFolder

_PART, _TRANSFORM = "part.", "transform."  # how the names of their tensors begin


class FingerprintError(DamagedError):
    """The tensors of a set are not those that its record was written for."""


@dataclass
class DistilledSet:
    """Images with labels and weights: what is stored. What students see is :meth:`decode`.

    Attributes:
        images: uint8 pixels ``(n, 3, h, w)``, or float32: images in the space of ``form.transform`` (in [0, 1] where
            there is none, though not bound to it), or whatever ``form.decoder`` makes images of.
        labels: int64 ``(n,)``, indices into ``class_names``; None where targets alone say what to learn.
        weights: float32 ``(n,)``, at least 0, of mean 1 within each class. They scale losses and nothing else: an image
            of weight 0 still acts on students through CutMix and the statistics of batch normalisation.
        class_names: Names in label order.
        metadata: How it was made: method, configuration, fingerprints, seed, versions, costs (JSON values).
        targets: What to answer to each image, where that is no class index alone.
        stages: int64 ``(n,)``, from 0 on: when an image joins a training in stages; None without stages.
        parts: Further tensors that the decoder needs, each with n rows.
        form: Decoder, transform and the authors' recipe.

    Raises:
        UserError: If shapes, dtypes, labels or weights contradict one another.

    Example:
        >>> images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
        >>> tiny = DistilledSet(images, torch.tensor([0, 1]), torch.ones(2), ["cat", "dog"])
        >>> tiny.ipc, len(tiny.decode())
        (1, 2)
    """

    images: Tensor
    labels: Tensor | None
    weights: Tensor
    class_names: list[str]
    metadata: dict[str, Any] = field(default_factory=dict)
    targets: Targets | None = None
    stages: Tensor | None = None
    parts: dict[str, Tensor] = field(default_factory=dict)
    form: SetForm = field(default_factory=SetForm)

    def __post_init__(self) -> None:
        """Check that the parts fit."""
        self.form.decoder.check(self.images, self.parts)
        self._check_rows()
        if self.labels is not None:
            low, high = int(self.labels.min()), int(self.labels.max())
            if low < 0 or high >= len(self.class_names):
                raise UserError(
                    f"Not a distilled set: labels must lie in 0..{len(self.class_names) - 1}."
                )
        if not bool(torch.isfinite(self.weights).all()) or bool((self.weights < 0).any()):
            raise UserError("Not a distilled set: weights must be finite and at least 0.")
        sums, counts = self._per_class(self.weights), self._per_class(torch.ones(len(self)))
        if not torch.allclose(sums, counts, rtol=1e-3, atol=1e-3):
            raise UserError("Not a distilled set: weights must have mean 1 within each class.")

    def _check_rows(self) -> None:
        """Refuse tensors of other dtypes or lengths than the images need."""
        n = len(self.images)
        checks = {"weights must be float32 (n,)": _column(self.weights, torch.float32, n)}
        if self.labels is not None:
            checks["labels must be int64 (n,)"] = _column(self.labels, torch.int64, n)
        if self.stages is not None:
            checks["stages must be int64 (n,), at least 0"] = (
                _column(self.stages, torch.int64, n) and int(self.stages.min()) >= 0
            )
        lengths = [len(part) for part in self.parts.values()]
        lengths += [] if self.targets is None else [len(self.targets)]
        checks["targets and parts must have a row for every image"] = all(m == n for m in lengths)
        checks["there must be labels or targets"] = (
            self.labels is not None or self.targets is not None
        )
        for rule, holds in checks.items():
            if not holds:
                raise UserError(f"Not a distilled set: {rule}.")

    def __len__(self) -> int:
        """Count the stored images."""
        return len(self.images)

    def _per_class(self, values: Tensor) -> Tensor:
        """Add up values ``(n,)`` by class; without labels the whole set is one class."""
        if self.labels is None:
            return values.sum().reshape(1)
        return torch.zeros(len(self.class_names)).index_add(0, self.labels, values)

    @property
    def ipc(self) -> int:
        """The largest number of stored images that a class has; without labels what a class has on average."""
        if self.labels is None:
            return math.ceil(len(self) / len(self.class_names))
        return int(torch.bincount(self.labels).max())

    @property
    def effective_ipc(self) -> float:
        r"""Images per class that count: :math:`(\sum_k w_k)^2 / \sum_k w_k^2`, averaged over classes.

        Kish's effective sample size: all images where weights are equal, fewer the more unequal they are.
        """
        sums, squares = self._per_class(self.weights), self._per_class(self.weights**2)
        present = squares > 0
        effective = float((sums[present] ** 2 / squares[present]).mean())
        return effective if self.labels is not None else effective / len(self.class_names)

    @property
    def image_bytes(self) -> int:
        """Bytes of the stored images, before any codec; a float image takes four times an 8-bit one."""
        return self.images.nbytes

    @property
    def stored_bytes(self) -> int:
        """Bytes of all that is stored but label, weight and stage, which every set has alike."""
        return self.image_bytes + self._other_bytes()

    @property
    def uint8_bytes(self) -> int | None:
        """``stored_bytes`` with images of 8 bit, see :meth:`rounded`; None where they cannot be rounded."""
        return self.images.numel() + self._other_bytes() if self._can_be_rounded() else None

    @property
    def float_bytes(self) -> int:
        """``stored_bytes`` with images of 32 bit."""
        return 4 * self.images.numel() + self._other_bytes()

    def _other_bytes(self) -> int:
        """Count what goes with the images: parts, targets, transform, and a learning rate of 32 bit."""
        tensors = [*self.parts.values(), *self._transform().values()]
        tensors += [] if self.targets is None else [self.targets.values]
        learns = self.form.recipe is not None and self.form.recipe.lr is not None
        return sum(tensor.nbytes for tensor in tensors) + (4 if learns else 0)

    @property
    def fingerprint(self) -> str:
        """Hash of all that decides what students see and learn (not of the record, nor of the recipe)."""
        tensors = {"images": self.images, "weights": self.weights}
        optional = {"labels": self.labels, "stages": self.stages}
        tensors |= {name: part for name, part in optional.items() if part is not None}
        tensors |= {f"part.{name}": part for name, part in self.parts.items()}
        tensors |= {f"transform.{name}": part for name, part in self._transform().items()}
        described: dict[str, Any] = {}
        if self.form.decoder != SetForm().decoder:
            described["decoder"] = self.form.decoder.describe()
        if self.targets is not None:
            tensors["targets"] = self.targets.values
            described["targets"] = self.targets.kind
        hashed = hash_tensors(tensors)
        return hash_config({"tensors": hashed, **described}) if described else hashed

    def _transform(self) -> dict[str, Tensor]:
        return {} if self.form.transform is None else self.form.transform.tensors()

    def decode(self) -> Decoded:
        """Make the images that students train on: of this alone evaluations read.

        Returns:
            Images with labels, targets, weights, stages, and the stored image that each comes from.
        """
        decoder, transform = self.form.decoder, self.form.transform
        images, index = decoder.decode(self.images, self.parts)
        if transform is not None:
            transform.check_size(images.shape)
        return Decoded(
            images=images,
            labels=None if self.labels is None else self.labels[index],
            targets=None if self.targets is None else self.targets.rows(index),
            weights=self.weights[index],
            index=index,
            stages=None if self.stages is None else self.stages[index],
            transform=transform,
            gives_pixels=transform is None or decoder.gives_pixels(self.images),
        )

    def rounded(self) -> "DistilledSet":
        """Return the set with its float images rounded to 8 bit, a fourth of the bytes; the set itself where it has none.

        Images of a transform's space are mapped back to pixels first; what lies outside [0, 1] is cut off.

        Raises:
            UserError: If what is stored are no images, or images that the transform does not map one by one.
        """
        if self.images.dtype == torch.uint8:
            return self
        decoder, transform = self.form.decoder, self.form.transform
        whitened = transform is not None and transform.zca is not None
        if not self._can_be_rounded():
            raise UserError(
                f"A set with the decoder {decoder.name!r}{' and whitening' if whitened else ''} cannot be rounded to 8 bit."
            )
        pixels = self.images if transform is None else transform.invert(self.images)
        metadata = {**self.metadata, "set_precision": "uint8"}
        return replace(self, images=to_uint8(pixels), metadata=metadata)

    def _can_be_rounded(self) -> bool:
        """Say whether what is stored are pixels, or images that are mapped back to pixels one by one."""
        decoder, transform = self.form.decoder, self.form.transform
        whitened = transform is not None and transform.zca is not None
        shown = decoder.name in ("pixels", "grid") and not (whitened and decoder.name == "grid")
        return shown or self.images.dtype == torch.uint8

    def tensors(self) -> dict[str, Tensor]:
        """Return all that is stored, by the names of the file."""
        tensors = {
            "images" if self.images.dtype == torch.uint8 else "data": self.images,
            "label": self.labels,
            "target": None if self.targets is None else self.targets.values,
            "weight": self.weights,
            "stage": self.stages,
        }
        tensors |= {f"{_PART}{name}": part for name, part in self.parts.items()}
        tensors |= {f"{_TRANSFORM}{name}": part for name, part in self._transform().items()}
        return {name: tensor for name, tensor in tensors.items() if tensor is not None}

    def record(self) -> dict[str, Any]:
        """Return what the tensors do not tell, as JSON values: how to read them, and how they were made."""
        read = {
            "decoder": self.form.decoder.describe(),
            "target_kind": None if self.targets is None else self.targets.kind,
            "recipe": None if self.form.recipe is None else self.form.recipe.describe(),
            "class_names": self.class_names,
            "fingerprint": self.fingerprint,
        }
        return {key: value for key, value in read.items() if value is not None} | self.metadata

    @classmethod
    def assemble(
        cls, tensors: Mapping[str, Tensor], record: Mapping[str, Any], where: Path
    ) -> "DistilledSet":
        """Put a set together again.

        Args:
            tensors: What :meth:`tensors` returned.
            record: What :meth:`record` returned.
            where: Where they come from, for errors.

        Raises:
            UserError: If they contradict each other or themselves.
        """
        recipe, targets = record.get("recipe"), tensors.get("target")
        transform = under_prefix(tensors, _TRANSFORM)
        form = SetForm(
            decoder_from(record["decoder"], where),
            Transform.read(transform, where) if transform else None,
            None if recipe is None else SetRecipe.read(recipe, where),
        )
        distilled = cls(
            tensors["images"] if "images" in tensors else tensors["data"],
            tensors.get("label"),
            tensors["weight"],
            record["class_names"],
            {key: value for key, value in record.items() if key not in RESERVED},
            None if targets is None else Targets.read(targets, record.get("target_kind")),
            tensors.get("stage"),
            under_prefix(tensors, _PART),
            form,
        )
        if distilled.fingerprint != record["fingerprint"]:
            raise FingerprintError(
                where, "and the tensors beside it do not belong together (fingerprints differ)"
            )
        return distilled

    def save(self, folder: Path | str) -> None:
        """Write the set; the tensors come last, so a folder that has them is whole.

        Args:
            folder: Where to; made if need be.
        """
        write_set_files(Path(folder), self.tensors(), self.record())

    @classmethod
    def exists(cls, folder: Path | str) -> bool:
        """Say whether a whole set is stored there."""
        return has_set_files(Path(folder))

    @classmethod
    def load(cls, folder: Path | str) -> "DistilledSet":
        """Read a set and check it.

        Args:
            folder: What :meth:`save` wrote, in this format or an earlier one.

        Raises:
            DamagedError: If a file is missing or corrupt, or if they do not belong together.
            UserError: If the folder is missing, or the set of a newer format.
        """
        folder = Path(folder)
        try:
            tensors, record = read_set_files(folder)
            return cls.assemble(tensors, record, SetFolder(folder).record)
        except DamagedError as error:
            raise error.mended_by(
                f"Copy {folder} again from where it came, or import or export it anew; in an output of this suite "
                "`ddoq-bench distill` with its configuration sets it aside and makes it again."
            ) from None


def _column(values: Tensor, dtype: torch.dtype, n: int) -> bool:
    return values.dtype == dtype and values.shape == (n,)
