"""Soft labels that are made once, kept in files, and read by students of every seed, batch size and number of ranks.

A label belongs to an image and an epoch. All images of some epochs are one file; what a file holds follows from the
set, the teacher and the recipe alone, so that any process may make any file, and none is made twice.
"""

import functools
import json
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from torch import Tensor

from benchmarks.students.training_set import TrainingSet
from ddoq.console import Progress, say
from ddoq.errors import UserError
from ddoq.labels.compact import check_top_k, compress, label_bytes
from ddoq.storage.damage import DamagedError, read_or_set_aside
from ddoq.storage.disk import writing
from ddoq.storage.files import load_tensors, save_tensors, write_json
from ddoq.storage.fingerprints import hash_config, plain
from ddoq.storage.records import hashed_fields

if TYPE_CHECKING:
    from ddoq.teachers import Teacher

# Raised whenever a change of code changes what is stored for one and the same description.
LABEL_FORMAT = 1

_FILE_BYTES = 128 * 2**20  # a file that a killed run has to make again costs minutes, not hours
_PIXELS = {"cuda": 2**23, "cpu": 2**20}  # of a batch: 4096 or 1024 images of 32 pixels


@dataclass(frozen=True)
class LabelRecord:
    """All that decides stored labels; its hash names their folder. See :class:`StoredLabels`."""

    format: int
    distilled: str
    teacher: str
    images: int
    classes: int
    epochs: int
    seed: int
    top_k: int
    temperature: float | None
    crop_scale: tuple[float, float]
    crop_ratio: tuple[float, float]
    flip: bool
    cutmix_alpha: float
    collage: int
    color_jitter: float
    pca_lighting: float
    siamese: dict[str, Any] = field(default_factory=dict, metadata={"since": 2})
    jitter_clamp: bool = field(default=True, metadata={"since": 2})
    cutmix_batch: int = field(default=0, metadata={"since": 2})  # 0: a box or share for each image
    pad_crop: int = field(default=0, metadata={"since": 2})
    mixup_alpha: float = field(default=0.0, metadata={"since": 2})

    @classmethod
    def of(cls, training: TrainingSet, teacher: "Teacher") -> "LabelRecord":
        """Describe the labels of a set under its recipe."""
        recipe = training.recipe
        siamese = {"strategy": recipe.siamese, "mean": training.mean, "std": training.std}
        return cls(
            format=LABEL_FORMAT,
            distilled=training.fingerprint,
            teacher=teacher.fingerprint,
            images=len(training),
            classes=teacher.num_classes,
            epochs=training.plan.epochs,
            seed=recipe.label_seed,
            top_k=recipe.label_top_k,
            temperature=recipe.temperature if recipe.label_top_k else None,
            crop_scale=training.plan.crop_scale,
            crop_ratio=recipe.crop_ratio,
            flip=recipe.flip,
            cutmix_alpha=recipe.cutmix_alpha,
            collage=training.collage,
            color_jitter=recipe.color_jitter,
            pca_lighting=recipe.pca_lighting,
            siamese={} if recipe.siamese == "none" else siamese,
            jitter_clamp=recipe.jitter_clamp,
            cutmix_batch=training.plan.batch_size if recipe.mixes_by_batch else 0,
            pad_crop=recipe.pad_crop,
            mixup_alpha=recipe.mixup_alpha,
        )


class StoredLabels:
    """The labels of one distilled set by one teacher under one recipe.

    They lie in a folder of their own, named by the hash of everything that decides them; order, initialisation
    and batch size of a student do not. The teacher labels in float32, whatever the precision of the students.

    Args:
        root: The folder that holds all stored labels.
        training: What is labelled, and the recipe: how images are augmented, which seed draws that, and how much of a
            label is kept.
        teacher: Who labels.
        file_bytes: About the size of a file; whole epochs go into one.

    Attributes:
        description: All that decides the labels, as JSON values.
        folder: Where they lie.

    Raises:
        UserError: If ``label_top_k`` does not fit the number of classes.
    """

    def __init__(
        self,
        root: Path,
        training: TrainingSet,
        teacher: "Teacher",
        *,
        file_bytes: int = _FILE_BYTES,
    ) -> None:
        recipe = training.recipe
        check_top_k(recipe.label_top_k, teacher.num_classes)
        self.training, self.teacher, self.recipe = training, teacher, recipe
        self.num_classes = teacher.num_classes
        self.plan = training.plan
        self.description: dict[str, Any] = plain(hashed_fields(LabelRecord.of(training, teacher)))
        self.key = hash_config(self.description)
        self.folder = root / self.key
        self.epoch_bytes = label_bytes(len(training), self.num_classes, recipe.label_top_k)
        self.epochs_per_file = min(self.plan.epochs, max(1, file_bytes // self.epoch_bytes))
        self._block: tuple[int, dict[str, Tensor]] | None = None

    @property
    def total_bytes(self) -> int:
        """Bytes of the files, all of which must be there."""
        return sum(self._path(first).stat().st_size for first in self._starts)

    @property
    def _starts(self) -> range:
        """The first epoch of every file."""
        return range(0, self.plan.epochs, self.epochs_per_file)

    def _end(self, first: int) -> int:
        return min(first + self.epochs_per_file, self.plan.epochs)

    def _path(self, first: int) -> Path:
        return self.folder / f"epochs-{first:05d}-{self._end(first) - 1:05d}.safetensors"

    def make(self, device: torch.device | str) -> None:
        """Make the files that are missing; those that another process makes meanwhile are waited for.

        Processes that run this at the same time share the work file by file.

        Args:
            device: Where the teacher labels.

        Raises:
            UserError: If the disk cannot hold those that are missing. Damaged ones are set aside and made again.
        """
        missing = [first for first in self._starts if not self._usable(first)]
        if not missing:
            _say_once(f"stored labels: reused, {_size(self.total_bytes)} in {self.folder}")
            return
        self._announce(missing)
        write_json(self.folder / "labels.json", self.description)
        label_epoch = self._labeller(device)
        done = self.plan.epochs - self._count_epochs(missing)
        progress = Progress("stored labels", self.plan.epochs, unit="epochs", done=done)

        def label(epoch: int) -> dict[str, Tensor]:
            labels = label_epoch(epoch)
            progress.update(done + epoch % self.epochs_per_file + 1)
            return labels

        waiting: list[int] = []
        for first in missing:  # whatever another process is at now comes last
            if self._locked(first, label, wait=False):
                done += self._end(first) - first
            else:
                waiting.append(first)
        if waiting:
            say(f"stored labels: another process makes {len(waiting)} of the files, waiting for it")
        for first in waiting:
            self._locked(first, label, wait=True)
            done += self._end(first) - first
        say(f"stored labels: complete, {_size(self.total_bytes)} in {self.folder}")

    def _announce(self, missing: list[int]) -> None:
        """Say how large it gets, before anything is made, and refuse what the disk cannot hold."""
        epochs = self._count_epochs(missing)
        needed = epochs * self.epoch_bytes
        kept = self.recipe.label_top_k or "all"
        say(
            f"stored labels: {_size(needed)} for {epochs} of {self.plan.epochs} epochs of {len(self.training)} images, "
            f"{kept} of {self.num_classes} classes each, in {self.folder}"
        )
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise UserError(
                f"The stored labels need {_size(needed)}, but the disk of {self.folder} has {_size(free)} left: make "
                "room, keep fewer classes with the recipe's label_top_k, or use `labels: online`."
            )

    def _usable(self, first: int) -> bool:
        """Say whether a file is there; its header alone is read, its contents are checked when they are used."""
        path = self._path(first)

        def check(_: Path) -> bool:
            self._check_key(path, _metadata(path))
            return True

        return read_or_set_aside(path, check) is not None

    def _check_key(self, path: Path, metadata: dict[str, Any]) -> None:
        if metadata.get("key") != self.key or metadata.get("first") != int(path.name.split("-")[1]):
            raise DamagedError(path, "holds labels of another set, teacher, recipe or epoch")

    def _count_epochs(self, starts: Iterable[int]) -> int:
        return sum(self._end(first) - first for first in starts)

    def _locked(self, first: int, label: Callable[[int], dict[str, Tensor]], *, wait: bool) -> bool:
        """Make a file unless it is there; return False if another process is at it and we do not wait."""
        path = self._path(first)
        lock = path.with_name(f".{path.name}.lock")
        try:
            with FileLock(lock, timeout=-1 if wait else 0):
                if not path.exists():
                    for left in path.parent.glob(
                        f".{path.name}.*.tmp"
                    ):  # of a process that was killed
                        left.unlink()
                    self._write(first, label)
                # The file is there for good: whoever still waits at the lock will find it.
                with suppress(OSError):
                    lock.unlink()
        except Timeout:
            return False
        return True

    def _write(self, first: int, label: Callable[[int], dict[str, Tensor]]) -> None:
        epochs = [label(epoch) for epoch in range(first, self._end(first))]
        tensors = {name: torch.stack([epoch[name] for epoch in epochs]) for name in epochs[0]}
        save_tensors(self._path(first), tensors, {"key": self.key, "first": first})

    def _labeller(self, device: torch.device | str) -> Callable[[int], dict[str, Tensor]]:
        """Return what labels an epoch on a device."""
        teacher = self.teacher.eval().requires_grad_(False).to(device)
        training = self.training.to(device)
        return lambda epoch: self._label(epoch, teacher, training)

    @torch.no_grad()
    def _label(
        self, epoch: int, teacher: Callable[[Tensor], Tensor], training: TrainingSet
    ) -> dict[str, Tensor]:
        """Label all images of an epoch, as a student will see them."""
        recipe, device = self.recipe, training.decoded.images.device
        drawn = training.draw(recipe.label_seed, epoch).to(device)
        height, width = training.decoded.size
        size = max(1, min(4096, _PIXELS.get(device.type, _PIXELS["cpu"]) // (height * width)))
        parts = []
        for positions in torch.arange(len(training), device=device).split(size):
            logits = teacher(training.for_teacher(training.images(positions, drawn)))
            kept = compress(logits, top_k=recipe.label_top_k, temperature=recipe.temperature)
            parts.append({name: part.cpu() for name, part in kept.items()})
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def epoch(self, epoch: int) -> dict[str, Tensor]:
        """Read the labels of one epoch; one file at a time is kept in memory.

        Args:
            epoch: Counts from 0.

        Returns:
            What :func:`ddoq.labels.compact.expand` takes, on the CPU, row i for image i of the set.

        Raises:
            UserError: If the file is missing. One that is damaged is set aside and made again.
        """
        first = epoch // self.epochs_per_file * self.epochs_per_file
        if self._block is None or self._block[0] != first:
            self._block = None  # before the next one is read
            path = self._path(first)
            tensors = self._read(path) if not path.exists() else read_or_set_aside(path, self._read)
            if tensors is None:
                device = next((p.device for p in self.teacher.parameters()), torch.device("cpu"))
                self._locked(first, self._labeller(device), wait=True)
                tensors = self._read(path)
            self._block = (first, tensors)
        return {name: part[epoch - first] for name, part in self._block[1].items()}

    def _read(self, path: Path) -> dict[str, Tensor]:
        tensors, metadata = load_tensors(path)
        self._check_key(path, metadata)
        return tensors


def _metadata(path: Path) -> dict[str, Any]:
    """Read the header of a file, which also shows whether the file is as long as it should be."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, Any] = json.loads((file.metadata() or {})["metadata"])
    except (SafetensorError, OSError, KeyError, json.JSONDecodeError) as error:
        raise DamagedError(path, f"is corrupt ({error})") from None
    return metadata


@functools.cache
def _say_once(text: str) -> None:
    """Print a line that would otherwise come with every student."""
    say(text)


def _size(count: int) -> str:
    """Write a number of bytes: kB, MB and GB are powers of 1000."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} bytes"
