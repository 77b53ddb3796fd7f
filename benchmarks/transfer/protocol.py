"""How networks learn from a set without classes, and how they are then tested on tasks with classes."""

from dataclasses import dataclass, field, fields
from typing import Any

from ddoq.bounds import check_number
from ddoq.data import ImageDataModule
from ddoq.errors import UserError

_PRETRAIN = "pretrain_"  # how the names of settings begin that decide pre-training
_LEAST = {
    "pretrain_epochs": 1,
    "pretrain_batch_size": 2,
    "pretrain_weight_decay": 0,
    "iterations": 1,
    "batch_size": 2,
    "weight_decay": 0,
}


@dataclass(frozen=True)
class TransferProtocol:
    """How a set without classes is evaluated; sets with classes take a recipe instead.

    A student is pre-trained on images and target vectors. Then, for every target dataset, a linear probe learns on its
    frozen features, and another copy of it is fine-tuned as a whole. Numbers are those of KRR-ST: D. B. Lee et al.,
    *Self-Supervised Dataset Distillation for Transfer Learning*, ICLR 2024; its code fine-tunes in batches of 128.

    Attributes:
        targets: Datasets beside the set's own, e.g. ``[{class_path: FashionMNIST}]``; images of its size.
        pretrain_epochs: Passes over the set.
        pretrain_batch_size: Images a step of pre-training.
        pretrain_lr: Its learning rate, which stays; SGD with momentum 0.9.
        pretrain_weight_decay: Its decay of all weights.
        iterations: Steps of fine-tuning; the paper takes 10,000 on CIFAR and Tiny-ImageNet and 5,000 elsewhere.
        batch_size: Images a step of fine-tuning.
        lr: Its learning rate at the start, which falls along a cosine; SGD with momentum 0.9.
        weight_decay: Its decay of all weights.
        crop_pad: Largest shift of its random crops in pixels; an eighth of the side where None.
        hflip: Whether half of its images are mirrored; not where a mirrored image means something else, as of digits.

    Raises:
        UserError: If a number is out of its range.
    """

    targets: list[ImageDataModule] = field(default_factory=list)
    pretrain_epochs: int = 1000
    pretrain_batch_size: int = 256
    pretrain_lr: float = 0.1
    pretrain_weight_decay: float = 1e-3
    iterations: int = 10_000
    batch_size: int = 256
    lr: float = 0.01
    weight_decay: float = 5e-4
    crop_pad: int | None = None
    hflip: bool = True

    def __post_init__(self) -> None:
        """Refuse values that no training could use."""
        prefix = "evaluation.transfer"
        for name, least in _LEAST.items():
            check_number(f"{prefix}.{name}", getattr(self, name), at_least=least)
        for name in ("pretrain_lr", "lr"):
            check_number(f"{prefix}.{name}", getattr(self, name), above=0)
        if self.crop_pad is not None:
            check_number(f"{prefix}.crop_pad", self.crop_pad, at_least=0)

    def pretraining(self) -> dict[str, Any]:
        """Return what decides pre-training."""
        return {k: v for k, v in self.numbers().items() if k.startswith(_PRETRAIN)}

    def numbers(self) -> dict[str, Any]:
        """Return all settings but the datasets, as JSON values."""
        names = [item.name for item in fields(self) if item.name != "targets"]
        return {name: getattr(self, name) for name in names}

    def datasets(self, source: ImageDataModule) -> list[ImageDataModule]:
        """List the datasets to test on: the set's own where it has classes, and the others.

        Args:
            source: The set's own, set up.

        Returns:
            Datasets that are set up.

        Raises:
            UserError: If there is none, or one of them has images of another size, one class, or a name twice.
        """
        listed = [source] if source.num_classes > 1 else []
        for target in self.targets:
            target.setup()
            if target.image_size != source.image_size:
                raise UserError(
                    f"evaluation.transfer.targets: {target.name} has images of {target.image_size} pixels, but those of "
                    f"{source.name} have {source.image_size}: set its image_size to {source.image_size}."
                )
            if target.num_classes < 2:
                raise UserError(
                    f"evaluation.transfer.targets: {target.name} has one class, so that nothing can be told apart: leave it "
                    "out."
                )
            listed.append(target)
        names = [target.name for target in listed]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise UserError(
                f"evaluation.transfer.targets: two datasets are called {twice}; the set's own is there without being listed."
            )
        if not listed:
            raise UserError(
                f"{source.name} has no classes to test on: list datasets that have in evaluation.transfer.targets, e.g. "
                "--evaluation.transfer.targets '[{class_path: Digits, init_args: {image_size: "
                f"{source.image_size}}}}}]'."
            )
        return listed
