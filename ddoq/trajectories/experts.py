"""Expert trajectories: networks trained on the real images, with their weights after every epoch, as an ingredient."""

import math
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from filelock import Timeout
from torch import Tensor, nn

from ddoq.augmentation.siamese import FULL_STRATEGY, parse_strategy
from ddoq.bounds import check_number
from ddoq.console import Progress, duration, say
from ddoq.costs.memory import weight_bytes
from ddoq.costs.stages import training_stage
from ddoq.costs.workload import Sizes, Stage
from ddoq.data import ImageDataModule
from ddoq.decoding.transform import Transform, check_zca, fit_zca
from ddoq.distillation.ingredient import Ingredient
from ddoq.distillation.tables import ByBudget, settled
from ddoq.errors import UserError
from ddoq.networks import draw_network
from ddoq.objectives.functional import as_student, split_weights, weights_of
from ddoq.objectives.trajectories import Segment
from ddoq.optimisation.trainers import device_of
from ddoq.seeding import check_seed
from ddoq.storage.files import load_tensors, read_sealed, write_sealed
from ddoq.storage.fingerprints import hash_config, hash_tensors
from ddoq.storage.folders import build_once
from ddoq.storage.provenance import forget_peak_memory, largest_memory, peak_memory
from ddoq.teachers.batches import load_split
from ddoq.trajectories.beginning import Beginning
from ddoq.trajectories.files import WEIGHTS, make_once, read_rows, share_file
from ddoq.trajectories.recording import ExpertTraining, TrainingImages, record_expert
from ddoq.trajectories.stacked import record_stacked

_RECORD = "experts.json"
_TRANSFORM = "transform.safetensors"

_Made = tuple[dict[str, Tensor], dict[str, Any]]
_Make = Callable[[], _Made]


class ExpertTrajectories(Ingredient):
    """Networks of random weights that learn from the real images by plain or sharpness-aware gradient descent.

    They are recorded once for a dataset and these settings, one file an expert, and only the two checkpoints that a step
    compares are read from it. Ranks that wait record other experts meanwhile. A killed recording goes on with the
    first expert that is not whole.

    Sources: GeorgeCazenavette/mtt-distillation at 50dccea for all but ``rho`` and ``alpha``, which are those of
    AngusDujw/FTD-distillation at 711532a (0.01; 0.3 or 1).

    Args:
        arch: Their network; students are the same. Batch norm takes the statistics of each batch.
        count: How many experts.
        epochs: Passes of each over the training split; weights are kept after every one.
        lr: Step size, without momentum and decay.
        batch_size: Images a step.
        augmentation: Siamese strategy, kinds joined by underscores; ``none`` for none. One kind is drawn a batch.
        zca: Whether images are whitened as a whole, instead of normalised; or a table by number of classes and images
            per class. The matrix travels with the set.
        rho: Radius of the sharpness-aware step; 0 with ``alpha`` 0 is plain gradient descent.
        alpha: Share of the gradient's orthogonal part that this step takes away; or a table.
        seed: Decides weights, orders and augmentation of the experts, whatever the seed of the method is.
        at_once: Experts that train side by side, with stacked weights: faster where one leaves the device idle. Floats are
            then added in another order, so that bits differ in the last places.
    """

    added: ClassVar[Mapping[str, Any]] = {"at_once": 1}

    def __init__(
        self,
        arch: str = "convnet3",
        count: int = 100,
        epochs: int = 50,
        lr: float = 0.01,
        batch_size: int = 256,
        augmentation: str = FULL_STRATEGY,
        zca: ByBudget[bool] = False,
        rho: float = 0.0,
        alpha: ByBudget[float] = 0.0,
        seed: int = 0,
        at_once: int = 1,
    ) -> None:
        self.arch = arch
        self.count = count
        self.epochs = epochs
        self.lr = lr
        self.batch_size = batch_size
        self.augmentation = augmentation
        self.zca: bool = settled(zca)
        self.rho = rho
        self.alpha: float = settled(alpha)
        self.seed = check_seed("experts.seed", seed)
        self.at_once = at_once
        self._folder: Path | None = None
        self._record: dict[str, Any] = {}
        self._beginning: Beginning | None = None

    @property
    def beginning(self) -> Beginning | None:
        """What they have learnt before; None where they begin with random weights."""
        return self._beginning

    def continued(self, beginning: Beginning, epochs: int) -> Self:
        """Return further experts, to be prepared, that have learnt something before.

        Args:
            beginning: What.
            epochs: Of their training on real images.
        """
        other = self.with_arguments(epochs=epochs)
        other._beginning = beginning
        return other

    @classmethod
    def tiny(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Record two epochs of two small experts."""
        return {**super().tiny(given), "arch": "convnet2-w8", "count": 2, "epochs": 2}

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of Siamese augmentation; empty for none."""
        return parse_strategy(self.augmentation)

    def check(self, data: ImageDataModule) -> None:
        """Refuse settings outside their ranges, and a whitening matrix that is too large."""
        for name in ("count", "epochs", "batch_size", "at_once"):
            check_number(f"experts.{name}", getattr(self, name), at_least=1)
        check_number("experts.lr", self.lr, above=0)
        for name in ("rho", "alpha"):
            check_number(f"experts.{name}", getattr(self, name), at_least=0)
        parse_strategy(self.augmentation)
        if self.zca:
            check_zca(data.image_size)
        self.network(data.num_classes, data.image_size)

    def network(self, num_classes: int, image_size: int, number: int = 0) -> nn.Module:
        """Draw an expert before its training, on the CPU; students have its architecture.

        Args:
            num_classes: Number of logits.
            image_size: Side in pixels.
            number: Of the expert.
        """
        drawn = draw_network(
            self.arch, num_classes, image_size, "experts", "network", number, seed=self.seed
        )
        return as_student(drawn)

    def prepare(self, data: ImageDataModule, folder: Path, where: Mapping[str, Any]) -> None:
        """Record the experts, or find them recorded; see :meth:`Ingredient.prepare`."""
        parts = folder.with_name(f".{folder.name}.parts")
        was_there = folder.is_dir()
        recording = Recording(self, data, parts, where)
        if not was_there:
            recording.share_work(folder)
        built = build_once(folder, recording.collect)
        shutil.rmtree(parts, ignore_errors=True)
        self._folder = folder
        self._record = read_sealed(folder / _RECORD)
        what = "recorded" if built else "reused" if was_there else "recorded by another process"
        seconds, loss = self._record["seconds"], self._record["loss"]
        say(
            f"experts: {self.count} of {self.arch}, {self.epochs} epochs each, loss {loss:.4g}, {duration(seconds)}; "
            f"{what}, in {folder}"
        )

    @property
    def fingerprint(self) -> str:
        """Hash of all weights and of the transform."""
        return str(self._prepared()["fingerprint"])

    def _prepared(self) -> dict[str, Any]:
        if not self._record:
            raise RuntimeError("The experts are not recorded yet: call prepare() first.")
        return self._record

    def facts(self) -> dict[str, Any]:
        """Return the seconds, bytes and memory that they took, and their mean loss in the last epoch."""
        record = self._prepared()
        return {name: record.get(name) for name in ("seconds", "bytes", "peak_memory", "loss")}

    def transform(self) -> Transform:
        """Read the space that experts see images in, and synthetic ones are optimised in."""
        path = self._path(_TRANSFORM)
        return Transform.read(load_tensors(path)[0], path)

    def segment(
        self, number: int, start: int, length: int, like: Mapping[str, Tensor], device: torch.device
    ) -> Segment:
        """Read a stretch of an expert's training.

        Args:
            number: Of the expert.
            start: Epochs that it has behind it at the start.
            length: Epochs from there to the target.
            like: Weights of the network, for names and shapes.
            device: Where to put them.
        """
        rows = read_rows(self._path(expert_name(number)), [start, start + length])
        first, last = (split_weights(row.to(device), like) for row in rows)
        return Segment(first, last)

    def _path(self, name: str) -> Path:
        self._prepared()
        assert self._folder is not None
        return self._folder / name

    def workload(self, sizes: Sizes) -> list[Stage]:
        """Count the passes of all experts over the training images, two a step where it is sharpness-aware."""
        network = self.network(sizes.num_classes, sizes.image_size)
        flat = not self.rho == self.alpha == 0
        passes = self.count * self.epochs * sizes.train_images * (2 if flat else 1)
        stage = training_stage(
            "record experts",
            self.arch,
            network,
            sizes,
            passes,
            min(self.batch_size, sizes.train_images) * min(self.at_once, self.count),
            moments=0,
            files={"experts": self.count * (self.epochs + 1) * weight_bytes(network)},
            note=f"{self.count} experts of {self.epochs} epochs{', two gradients a step' if flat else ''}; once",
        )
        return [stage]


def expert_name(number: int) -> str:
    """Name the file of an expert."""
    return f"expert-{number:04d}.safetensors"


class _WholeError(Exception):
    """Another process has put the experts together meanwhile."""


class Recording:
    """The recording of all experts into files that outlive a kill, and are then put together.

    Args:
        experts: What is recorded.
        data: The dataset, set up.
        parts: Folder of the files that are whole.
        where: Arguments of ``lightning.Trainer`` that say where to run.
    """

    def __init__(
        self,
        experts: ExpertTrajectories,
        data: ImageDataModule,
        parts: Path,
        where: Mapping[str, Any],
    ) -> None:
        self.experts = experts
        self.data = data
        self.parts = parts
        self.where = where
        total = experts.count * experts.epochs
        self._progress = Progress("experts", total, unit="epochs", done=self._done_before())
        self._images: TrainingImages | None = None

    def _done_before(self) -> int:
        names = (expert_name(number) for number in range(self.experts.count))
        return sum((self.parts / name).exists() for name in names) * self.experts.epochs

    def share_work(self, folder: Path) -> None:
        """Record what no other process records at the moment, until the whole is there."""

        def unless_whole(make: _Make) -> _Make:
            def made() -> _Made:
                if folder.is_dir():  # and its parts are gone
                    raise _WholeError
                return make()

            return made

        try:
            make_once(self.parts / _TRANSFORM, unless_whole(self._fit), wait=True)
            for number in range(0, self.experts.count, self.experts.at_once):
                path = self.parts / expert_name(number)
                with suppress(Timeout):  # another rank is at it
                    make_once(path, unless_whole(partial(self._make, number)), wait=False)
        except _WholeError:
            return
        except (OSError, UserError):
            if not folder.is_dir():
                raise
            # Another process has put the whole together and removed the parts, while we waited for one of them.

    def collect(self, target: Path) -> None:
        """Fill the folder of the experts, with those that are still missing."""
        make_once(self.parts / _TRANSFORM, self._fit, wait=True)
        share_file(self.parts / _TRANSFORM, target / _TRANSFORM)
        records = []
        for number in range(self.experts.count):
            name = expert_name(number)
            make_once(self.parts / name, partial(self._make, number), wait=True)
            share_file(self.parts / name, target / name)
            records.append(load_tensors(target / name)[1])
        transform, _ = load_tensors(target / _TRANSFORM)
        hashes = [hash_tensors(transform), *(record["hash"] for record in records)]
        write_sealed(
            target / _RECORD,
            {
                "seconds": math.fsum(record["seconds"] for record in records),
                "bytes": sum(path.stat().st_size for path in target.glob("*.safetensors")),
                "peak_memory": largest_memory(record.get("peak_memory") for record in records),
                "loss": math.fsum(record["losses"][-1] for record in records) / len(records),
                "losses": [record["losses"] for record in records],
                "fingerprint": hash_config(hashes),
            },
        )

    def _fit(self) -> _Made:
        """Make the transform of images."""
        if self.experts.beginning is not None:
            return self.experts.beginning.transform.tensors(), {}
        if not self.experts.zca:
            return Transform.normalize(self.data.mean, self.data.std).tensors(), {}
        return fit_zca(load_split(self.data.train)).tensors(), {}

    def _make(self, number: int) -> _Made:
        """Train an expert with those beside it, of which all that are missing are written before it is.

        A group is the same after a kill as before it, and so are its bits.
        """
        first = number - number % self.experts.at_once
        made = self._train(range(first, min(first + self.experts.at_once, self.experts.count)))
        for other in sorted(made.keys() - {number}):
            with suppress(Timeout):  # another rank is at it
                make_once(
                    self.parts / expert_name(other), partial(made.__getitem__, other), wait=False
                )
        return made[number]

    def _train(self, numbers: range) -> dict[int, _Made]:
        """Train experts, side by side where that was asked for; seconds are kept beside weights."""
        started = time.perf_counter()
        forget_peak_memory()
        experts, images = self.experts, self._training_images()
        networks = {
            number: experts.network(self.data.num_classes, self.data.image_size, number).to(
                images.device
            )
            for number in numbers
        }
        if experts.beginning is not None:
            for number, network in networks.items():
                experts.beginning.teach(network, number)
        training = ExpertTraining(
            experts.epochs,
            experts.lr,
            experts.batch_size,
            experts.kinds,
            experts.rho,
            experts.alpha,
            experts.seed,
        )

        def told(epoch: int, loss: float) -> None:
            done = numbers.start * experts.epochs + len(numbers) * epoch
            self._progress.update(done, loss=loss)

        first = networks[numbers.start]
        if experts.at_once == 1:
            recorded = [record_expert(first, images, training, numbers.start, told)]
        else:
            starts = [weights_of(network) for network in networks.values()]
            recorded = record_stacked(first, starts, images, training, numbers, told)
        seconds = (time.perf_counter() - started) / len(numbers)
        return {
            number: (
                {WEIGHTS: weights},
                {
                    "hash": hash_tensors({WEIGHTS: weights}),
                    "seconds": seconds,
                    "peak_memory": peak_memory(),
                    "losses": losses,
                },
            )
            for number, (weights, losses) in zip(numbers, recorded, strict=True)
        }

    def _training_images(self) -> TrainingImages:
        """Return what all experts learn from; it is read once."""
        if self._images is None:
            path = self.parts / _TRANSFORM
            device = device_of(self.where)
            transform = Transform.read(load_tensors(path)[0], path).to(device)
            self._images = TrainingImages(self.data.train, transform, device)
        return self._images
