"""Latents of a whole dataset, encoded once, kept as fp16, and read by every run that starts from them."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from filelock import FileLock
from torch import Tensor

from ddoq.console import Progress, say
from ddoq.data import ImageDataModule, ImageSplit
from ddoq.errors import UserError
from ddoq.finite import NotFiniteError
from ddoq.images import to_float
from ddoq.priors.base import Prior
from ddoq.seeding import generator_for
from ddoq.storage.damage import DamagedError, read_or_set_aside
from ddoq.storage.disk import WriteError, free_bytes, writing
from ddoq.storage.files import load_tensors, save_tensors, write_json
from ddoq.storage.fingerprints import hash_config
from ddoq.storage.run_folder import RunFolder

# Raised whenever a change of code changes what latents hold, so that old ones are not reused.
LATENT_FORMAT = 2

Posterior = Literal["mode", "sample"]

_BYTES = 2  # of a value


@dataclass(frozen=True)
class ClassLatents:
    """The latents of one class.

    Attributes:
        values: fp16 ``(n, *latent_shape)`` on the CPU, in the order of the training split.
        seconds: What their encoding took, whenever it was.
        reused: Whether they were read from the cache.
    """

    values: Tensor
    seconds: float
    reused: bool


def encoded_split(
    prior: Prior, data: ImageDataModule, stretch: bool = False
) -> tuple[ImageSplit, int]:
    """Return the training images as an encoder shall see them: decoded from their source at its size where they can be.

    A copy at 224 pixels, enlarged to the 512 of Stable Diffusion, would show it a blurred photograph.

    Args:
        prior: The encoder.
        data: The dataset, set up.
        stretch: Whether both sides are brought to that size; otherwise the shorter one, and the centre is cut out.

    Returns:
        The images, in the order of ``data.train``, and their side in pixels. Where they exist at the dataset's size
        only, they keep it, and the encoder resizes them.
    """
    split = data.train.at_size(prior.image_size, stretch=stretch)
    return split, data.image_size if split is data.train else prior.image_size


def encoded_at(prior: Prior, data: ImageDataModule, stretch: bool = False) -> dict[str, Any]:
    """Say for records at which side in pixels the images are decoded for an encoder, as ``{"encoded_at": 512}``.

    Where they are stretched to it, that is said as well: ``"stretched": True``.
    """
    split, size = encoded_split(prior, data, stretch)
    stretched = {"stretched": True} if stretch and split is not data.train else {}
    return {"encoded_at": size, **stretched}


def encoding_key(prior: Prior, data: ImageDataModule, stretch: bool = False) -> dict[str, Any]:
    """Return :func:`encoded_at` where that is not the dataset's own way, so that older keys stay what they are."""
    record = encoded_at(prior, data, stretch)
    return record if record != {"encoded_at": data.image_size} else {}


@torch.no_grad()
def encode_class(
    prior: Prior,
    data: ImageDataModule,
    label: int,
    *,
    batch_size: int,
    device: torch.device,
    sample_seed: int | None = None,
    stretch: bool = False,
    on_batch: Callable[[int], None] = lambda count: None,
) -> Tensor:
    """Encode all training images of a class, and round the latents to fp16.

    The rounding is part of the definition, not of the cache: a run that keeps nothing computes on the same values.
    It moves a latent by at most 2^-11 of its size. Images are decoded at the prior's size, see :func:`encoded_split`.

    Args:
        prior: The encoder.
        data: The dataset.
        label: The class.
        batch_size: Images a batch.
        device: Where the prior is.
        sample_seed: Draws from the posterior, for every image from a generator of its own (seed, class, number
            in the class), so that batches do not matter; None takes the mode.
        stretch: See :func:`encoded_split`.
        on_batch: Told the number of images of each batch that is done.

    Returns:
        fp16 latents ``(n, *latent_shape)`` on the CPU.

    Raises:
        NotFiniteError: If a latent is no number, or beyond what fp16 holds.
    """
    parts, start = [], 0
    split, _ = encoded_split(prior, data, stretch)
    for positions in data.train.of_class(label).split(batch_size):
        numbers = range(start, start + len(positions))
        generators = (
            None
            if sample_seed is None
            else [generator_for(sample_seed, "posterior", label, number) for number in numbers]
        )
        images = to_float(split.load(positions.tolist()).to(device))
        latents = prior.encode(images, generator=generators)
        halves = latents.half().cpu()
        if not bool(halves.isfinite().all()):
            raise NotFiniteError(_overflow(latents, prior, data, label))
        parts.append(halves)
        start += len(positions)
        on_batch(len(positions))
    return torch.cat(parts)


def _overflow(latents: Tensor, prior: Prior, data: ImageDataModule, label: int) -> str:
    """Say what is wrong with latents that fp16 cannot hold."""
    whose = f"the prior {prior.origin} for images of class '{data.classes[label].name}'"
    if not bool(latents.isfinite().all()):
        return (
            f"The latents of {whose} are not finite (NaN or infinite). An opened autoencoder may overflow in float16: "
            "set prior.init_args.dtype to float32 or bfloat16. Otherwise its weights are broken: one that was trained "
            "here needs a lower prior.init_args.vae.learning_rate."
        )
    return (
        f"The latents of {whose} reach {float(latents.abs().max()):.3g}, beyond fp16's 65504; they should have a "
        "standard deviation near 1. Mend scaling_factor in the prior's vae/config.json."
    )


class LatentCache:
    """fp16 latents of a dataset, one file a class: ``<root>/latents/<key>/class-0000.safetensors``.

    The key hashes the dataset, the encoder (not the diffusion model), the side at which images are decoded for it, how
    the posterior is read. A class is encoded by whoever first needs it; ranks and processes that need the same one wait for it. The batch size is
    no part of the key: in other batches a network rounds a little differently (of 35,072 values of a class of digits
    87 differed between batches of 1 and 64, by 0.002 at most), which is no reason to encode a dataset again. The file
    records it.

    Args:
        root: The output folder.
        prior: The encoder.
        data: The dataset, set up.
        posterior: ``mode`` or ``sample``.
        seed: Decides the draws of ``sample``; without meaning for ``mode``.
        stretch: See :func:`encoded_split`.
    """

    def __init__(
        self,
        root: Path,
        prior: Prior,
        data: ImageDataModule,
        *,
        posterior: Posterior,
        seed: int,
        stretch: bool = False,
    ) -> None:
        self.stretch = stretch
        self.prior = prior
        self.data = data
        self.sample_seed = seed if posterior == "sample" else None
        self.description: dict[str, Any] = {
            "format": LATENT_FORMAT,
            "data": data.train_fingerprint,
            "encoder": prior.encoder_fingerprint,
            "posterior": posterior,
            "seed": self.sample_seed,
            "precision": "32-true",  # encoders compute in the dtype of their weights, see `encoder`
            "dtype": "float16",
            "latent_shape": prior.latent_shape,
            **encoded_at(prior, data, stretch),
        }
        self.run = RunFolder(root)
        self.key = hash_config(self.description)
        self._sizes = torch.bincount(data.train.labels, minlength=data.num_classes).tolist()
        self._encoded = 0
        self._seconds = 0.0
        self._progress: Progress | None = None

    @property
    def folder(self) -> Path:
        """Where the latents lie."""
        return self.run.latents(self.key)

    def path(self, label: int) -> Path:
        """Return the file of a class."""
        return self.run.class_latents(self.key, label)

    def missing(self, labels: Sequence[int]) -> list[int]:
        """Return those classes that are not encoded yet."""
        return [label for label in labels if not self.path(label).is_file()]

    def announce(self, labels: Sequence[int]) -> None:
        """Say what encoding the missing ones of some classes will take, before it starts.

        Raises:
            UserError: If the disk has no room for them.
        """
        missing = self.missing(labels)
        if not missing:
            if labels:
                say(f"latents: reused, in {self.folder}")
            return
        images = sum(self._sizes[label] for label in missing)
        size = images * self._latent_bytes
        say(
            f"latents: encoding {images:,} images of {len(missing)} of {self.data.num_classes} classes once at "
            f"{self.description['encoded_at']} pixels, "
            f"{size / 1e6:,.1f} MB in fp16, to {self.folder}"
        )
        free = free_bytes(self.folder)
        if free is not None and free < size:
            raise UserError(
                f"{self.folder} needs {size / 1e6:,.1f} MB for latents, but its disk has {free / 1e6:,.1f} MB free. "
                f"Free some space, or give another --output. {_MEND}"
            )

    def obtain(self, label: int, *, batch_size: int, device: torch.device) -> ClassLatents:
        """Read the latents of a class, or encode and keep them.

        Args:
            label: The class.
            batch_size: Images a batch, where they must be encoded.
            device: Where the prior is.

        Raises:
            UserError: If a file cannot be read or written, or if latents do not fit into fp16. A damaged file is set
                aside, and the class encoded again.
        """
        path = self.path(label)
        stored = read_or_set_aside(path, lambda _: self._read(label))
        if stored is not None:
            return stored
        with self._alone(path):
            if path.is_file():  # another process made it meanwhile
                return self._read(label)
            return self._make(label, batch_size, device)

    def finish(self) -> None:
        """Say how much this process encoded, if anything."""
        if self._encoded:
            say(
                f"latents: {self._encoded:,} images encoded in {self._seconds:.1f} s"
                f" ({self._encoded / max(self._seconds, 1e-9):,.0f} a second)"
            )
        self._encoded, self._seconds, self._progress = 0, 0.0, None

    @property
    def _latent_bytes(self) -> int:
        return _BYTES * torch.Size(self.prior.latent_shape).numel()

    def _make(self, label: int, batch_size: int, device: torch.device) -> ClassLatents:
        started = time.perf_counter()
        before = self._seconds
        if self._progress is None:
            self._progress = Progress(
                "latents", sum(self._sizes), unit="images", done=self._images_kept()
            )
        progress = self._progress
        images = 0

        def count_batch(count: int) -> None:
            nonlocal images
            images += count
            self._encoded += count
            self._seconds = before + time.perf_counter() - started
            if progress.due():  # files are counted, since other processes encode as well
                progress.update(self._images_kept() + images)

        values = encode_class(
            self.prior,
            self.data,
            label,
            batch_size=batch_size,
            device=device,
            sample_seed=self.sample_seed,
            stretch=self.stretch,
            on_batch=count_batch,
        )
        seconds = time.perf_counter() - started
        positions = self.data.train.of_class(label)
        tensors = {
            "latents": values,
            "positions": positions,
            "labels": self.data.train.labels[positions],
        }
        metadata = {
            **self.description,
            "class": self.data.classes[label].name,
            "seconds": seconds,
            "batch_size": batch_size,
            "device": device.type,
            "torch": torch.__version__,
        }
        with _writing(self.path(label)):
            save_tensors(self.path(label), tensors, metadata)
        return ClassLatents(values, seconds, reused=False)

    def _read(self, label: int) -> ClassLatents:
        path = self.path(label)
        tensors, metadata = load_tensors(path)
        positions = self.data.train.of_class(label)
        expected = {
            "positions": positions,
            "labels": self.data.train.labels[positions],
        }
        values = tensors.get("latents", torch.empty(0))
        shape = (len(positions), *self.prior.latent_shape)
        if (
            values.dtype != torch.float16
            or tuple(values.shape) != shape
            or any(not _same(tensors.get(name), tensor) for name, tensor in expected.items())
        ):
            raise DamagedError(
                path,
                f"does not fit: class '{self.data.classes[label].name}' of {self.data.name} has "
                f"{len(positions)} training images and latents {shape[1:]}, the file holds {values.dtype} "
                f"{tuple(values.shape)} of {metadata.get('class')!r}, perhaps of other images",
            )
        return ClassLatents(values, float(metadata.get("seconds", 0.0)), reused=True)

    @contextmanager
    def _alone(self, path: Path) -> Iterator[None]:
        """Keep other ranks and processes from encoding the same class."""
        lock = FileLock(path.with_name(f".{path.stem}.lock"))
        with _writing(path):
            self.folder.mkdir(parents=True, exist_ok=True)
            record = self.run.latents_record(self.key)
            if not record.exists():
                write_json(record, {**self.description, "dataset": self.data.describe()})
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _images_kept(self) -> int:
        """Count the images of all classes whose latents are there."""
        count = self.data.num_classes
        missing = set(self.missing(range(count)))
        return sum(self._sizes[label] for label in range(count) if label not in missing)


_MEND = "Without a cache latents are encoded anew in every run: model.init_args.latent_cache false."


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn what a full disk or a read-only folder raises into an error that says what to do."""
    try:
        with writing(path):
            yield
    except WriteError as error:
        raise WriteError(f"{error} {_MEND}") from error


def _same(stored: Tensor | None, expected: Tensor) -> bool:
    return stored is not None and torch.equal(stored, expected)
