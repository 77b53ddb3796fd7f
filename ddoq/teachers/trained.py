"""A teacher that is trained on the dataset when it is first asked for."""

import re
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import nn

from ddoq.bounds import check_finite
from ddoq.costs.flops import on_meta
from ddoq.costs.memory import weight_bytes
from ddoq.costs.stages import forward_stage, training_stage
from ddoq.costs.workload import Sizes, Stage
from ddoq.data.base import ImageDataModule
from ddoq.errors import UserError
from ddoq.finite import NotFiniteError
from ddoq.networks import build_network
from ddoq.optimisation.trainers import run_training
from ddoq.precision import Precision, check_precision
from ddoq.seeding import derive_seed
from ddoq.storage.checkpoints import Checkpoint
from ddoq.storage.fingerprints import hash_config
from ddoq.storage.folders import obtain_folder
from ddoq.storage.records import hashed_fields
from ddoq.storage.run_folder import RunFolder
from ddoq.teachers.accuracy import TESTED_ON, measure_again, split_accuracies
from ddoq.teachers.sources import TeacherSource, announce, notice_constant, passes_over_test
from ddoq.teachers.teacher import TEACHER_FORMAT, Teacher
from ddoq.teachers.training import TeacherModule, TeacherTraining

# Raised whenever a change of code changes the weights that a training gives.
TRAINING_FORMAT = 1


class TrainedTeacher(TeacherSource):
    """Trains a teacher once and keeps it in the cache.

    The defaults suit small images: a narrow ConvNet with batch norm (SRe2L needs its statistics), SGD with
    Nesterov momentum, learning rate up for a fifth of the steps and down again along cosines, weight decay 5e-4 on
    matrices alone, and crops out of black borders an eighth of the side wide (4 pixels at 32, as
    He et al., 2016).

    Args:
        arch: ``convnet<depth>[-w<width>][-doubling][-bn|-in|-nonorm][-pad<padding>]`` or any architecture of timm.
        kwargs: Further arguments of a timm architecture.
        stem: ``small`` for ResNets, MobileNets and EfficientNets at 64 pixels or less.
        epochs: Passes over the training split.
        batch_size: Images a step.
        lr: Highest learning rate.
        weight_decay: Decay of the tensors that ``weight_decay_on`` names.
        label_smoothing: Share of the label that is spread over all classes, in [0, 1).
        crop_pad: Largest shift of a random crop in pixels; an eighth of the side where None, and none beside
            ``crop_scale``.
        hflip: Whether half of the images are mirrored. Off by default: digits and text do not survive it.
        optimizer: ``sgd`` or ``adamw``.
        warmup: Share of the training in which the learning rate rises, in [0, 1); whole epochs of it under ``cosine``.
        channels_last: Whether convolutions work on the channels-last layout.
        seed: Decides weights, order and augmentation.
        nesterov: Whether the momentum of ``sgd`` is Nesterov's.
        weight_decay_on: ``matrices`` decays only weights with two dimensions or more, ``all`` everything.
        schedule: ``one_cycle`` (up and down along cosines, set every step) or ``cosine`` (up along a line from a
            hundredth, down along a cosine, set every epoch), as SRe2L's scripts; ``warmup: 0`` starts at ``lr``.
        crop_scale: Smallest and largest share of the area of random resized crops (aspect ratios of 3/4 to 4/3), in the
            place of shifts; [0.08, 1.0] is torchvision's default.
        precision: ``bf16-mixed`` trains with passes in bfloat16; the weights are float32.

    Raises:
        UserError: If a value is out of its range.
    """

    def __init__(
        self,
        arch: str = "convnet3-w64-bn",
        kwargs: dict[str, Any] | None = None,
        stem: str | None = None,
        epochs: int = 15,
        batch_size: int = 128,
        lr: float = 0.1,
        weight_decay: float = 5e-4,
        label_smoothing: float = 0.0,
        crop_pad: int | None = None,
        hflip: bool = False,
        optimizer: str = "sgd",
        warmup: float = 0.2,
        channels_last: bool = True,
        seed: int = 0,
        precision: Precision = "32-true",
        nesterov: bool = True,
        weight_decay_on: str = "matrices",
        schedule: str = "one_cycle",
        crop_scale: tuple[float, float] | None = None,
    ) -> None:
        check_precision("teacher.precision", precision)
        self.precision = precision
        self.arch = arch
        self.kwargs = dict(kwargs or {})
        check_finite("teacher.kwargs", self.kwargs)
        self.stem = stem
        self.crop_pad = crop_pad
        self.training = TeacherTraining(
            epochs=epochs,
            batch_size=batch_size,
            lr=lr,
            weight_decay=weight_decay,
            label_smoothing=label_smoothing,
            crop_pad=0 if crop_pad is None else crop_pad,
            hflip=hflip,
            optimizer=optimizer,
            warmup=warmup,
            channels_last=channels_last,
            seed=seed,
            nesterov=nesterov,
            weight_decay_on=weight_decay_on,
            schedule=schedule,
            crop_scale=None if crop_scale is None else (crop_scale[0], crop_scale[1]),
        )

    @classmethod
    def tiny(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Train a small network for an epoch of a step or two."""
        network = {"arch": "convnet2-w8-bn", "kwargs": None, "stem": None}
        return {**super().tiny(given), **network, "batch_size": 64}

    def settings_for(self, data: ImageDataModule) -> dict[str, Any]:
        """Return everything that decides the weights, as JSON values.

        Args:
            data: The dataset, set up.

        Raises:
            UserError: If crops may lie outside of the images.
        """
        usual = 0 if self.training.crop_scale else data.image_size // 8
        crop_pad = usual if self.crop_pad is None else self.crop_pad
        if crop_pad >= data.image_size:
            raise UserError(
                f"teacher.crop_pad must be below the side of the images ({data.image_size} pixels), not {crop_pad}: it is "
                "how far they are shifted."
            )
        return {
            "format": [TEACHER_FORMAT, TRAINING_FORMAT],
            "arch": self.arch,
            "kwargs": self.kwargs,
            "stem": self.stem,
            "training": hashed_fields(replace(self.training, crop_pad=crop_pad)),
            "precision": self.precision,
            "data": data.normalized_fingerprint,
        }

    def obtain(self, data: ImageDataModule, cache: Path, trainer: Mapping[str, Any]) -> Teacher:
        """Load the teacher from the cache, or train it; see :meth:`TeacherSource.obtain`.

        A training that is killed goes on from its last checkpoint, and ends with the same bits.

        Raises:
            UserError: If that checkpoint cannot be used.
            NotFiniteError: If the training diverges; nothing is kept of it.
        """
        settings = self.settings_for(data)
        safe_name = re.sub(r"[^\w.-]", "_", self.arch)
        key = hash_config(settings)
        folder = RunFolder(cache).teacher(f"{safe_name}-{key}")
        was_there = folder.is_dir()
        started = time.perf_counter()
        checkpoint = Checkpoint.beside(folder, key)
        try:
            teacher, built = obtain_folder(
                folder, lambda t: self._build(t, data, trainer, settings, checkpoint), Teacher.load
            )
        except NotFiniteError:
            checkpoint.clear()  # nobody shall go on from there
            raise
        checkpoint.clear()
        teacher.check_matches(data)
        measure_again(teacher, data, folder, trainer)
        notice_constant(teacher, data, trainer)
        if built:
            announce(teacher, f"trained in {time.perf_counter() - started:.1f} s")
        else:
            announce(
                teacher, f"{'reused' if was_there else 'trained by another process'}, in {folder}"
            )
        return teacher

    def workload(self, sizes: Sizes) -> tuple[nn.Module, list[Stage]]:
        """Count training and test; see :meth:`TeacherSource.workload`."""
        network = on_meta(
            build_network(
                self.arch, sizes.num_classes, sizes.image_size, stem=self.stem, **self.kwargs
            )
        )
        batch = min(self.training.batch_size, sizes.train_images)
        whole_batches = sizes.train_images // batch * batch
        training = training_stage(
            "teacher: train",
            self.arch,
            network,
            sizes,
            self.training.epochs * whole_batches,
            batch,
            moments=1 if self.training.optimizer == "sgd" else 2,
            files={"weights": weight_bytes(network)},
        )
        test = forward_stage("teacher: test", self.arch, network, sizes, passes_over_test(sizes))
        return network, [training, test]

    def _build(
        self,
        target: Path,
        data: ImageDataModule,
        trainer: Mapping[str, Any],
        settings: Mapping[str, Any],
        checkpoint: Checkpoint,
    ) -> None:
        """Train the network, measure it, and fill a folder with it."""
        training = TeacherTraining(**settings["training"])
        network, device = self._train(data, trainer, training, checkpoint)
        fields: dict[str, Any] = {
            "arch": self.arch,
            "kwargs": self.kwargs,
            "stem": self.stem,
            "class_names": data.classes.names,
            "class_keys": data.classes.keys,
            "image_size": data.image_size,
            "mean": data.mean,
            "std": data.std,
        }
        teacher = Teacher(network.float(), accuracy=0.0, **fields).to(device)
        teacher.accuracy, teacher.accuracy_top5 = split_accuracies(teacher, data.test)
        teacher.training_record = {
            **settings,
            TESTED_ON: data.test_fingerprint,
            "seconds": checkpoint.elapsed,
        }
        teacher.save(target)

    def _train(
        self,
        data: ImageDataModule,
        trainer: Mapping[str, Any],
        training: TeacherTraining,
        checkpoint: Checkpoint,
    ) -> tuple[nn.Module, torch.device]:
        """Return the trained network and where it is; the caller's random state stays as it was."""
        with isolate_rng():
            torch.manual_seed(derive_seed(training.seed, "teacher"))
            network = build_network(
                self.arch, data.num_classes, data.image_size, stem=self.stem, **self.kwargs
            )
            if training.channels_last:
                network = network.to(memory_format=torch.channels_last)
            device = run_training(
                TeacherModule(network, data, training),
                what=f"teacher {self.arch}",
                mend=f"Lower teacher.lr (now {training.lr:g}).",
                trainer={**trainer, "precision": self.precision},
                checkpoint=checkpoint,
                max_epochs=training.epochs,
                reload_dataloaders_every_n_epochs=1,  # every epoch draws its own order
            )
        return network, device
