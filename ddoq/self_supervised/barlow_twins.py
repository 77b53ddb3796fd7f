"""A network that learns from images without labels, trained when a method first asks for it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn

from ddoq.augmentation.views import ViewSettings
from ddoq.bounds import check_number
from ddoq.console import duration, say
from ddoq.costs.memory import weight_bytes
from ddoq.costs.stages import training_stage
from ddoq.costs.workload import Sizes, Stage
from ddoq.data import ImageDataModule
from ddoq.distillation.ingredient import Ingredient
from ddoq.errors import UserError
from ddoq.finite import NotFiniteError
from ddoq.networks import draw_network
from ddoq.networks.features import replace_classifier
from ddoq.optimisation.trainers import run_training
from ddoq.seeding import check_seed, derive_seed
from ddoq.self_supervised.training import Optimizer, TwinsModule, TwinsTraining, make_projector
from ddoq.storage.checkpoints import Checkpoint
from ddoq.storage.files import load_tensors, read_sealed, save_tensors, write_sealed
from ddoq.storage.fingerprints import hash_tensors
from ddoq.storage.folders import build_once
from ddoq.teachers.batches import batches_of

_WEIGHTS, _RECORD = "network.safetensors", "barlow_twins.json"
_CURVE = 50  # stretches of the training whose mean losses the record keeps
_KEY = "target_model"  # what methods call it


class BarlowTwins(Ingredient):
    r"""A network whose features of two views of an image agree, while no two features say the same; no labels are read.

    Source: J. Zbontar, L. Jing, I. Misra, Y. LeCun and S. Deny, *Barlow Twins: Self-Supervised Learning via Redundancy
    Reduction*, ICML 2021. Numbers for small images are those of solo-learn's script for CIFAR (vturrisi/solo-learn,
    scripts/pretrain/cifar/barlow.yaml at 07f8c3b); the paper blurs every first view and a tenth of the second ones, at
    224 pixels.

    Args:
        arch: Any network of the suite; its features are what its last layer sees (512 of ``resnet18``).
        kwargs: Further arguments of the network.
        stem: ``small`` for ResNets, MobileNets and EfficientNets at 64 pixels or less.
        epochs: Passes over the training split.
        batch_size: Images a step, each in two views.
        lr: Highest learning rate.
        weight_decay: Decay of weights with two dimensions or more.
        optimizer: ``lars`` (momentum 0.9) or ``adamw``.
        warmup: Share of the training in which the learning rate rises along a line; then it falls along a cosine.
        hidden: Width of the three layers of the projector, which is not kept.
        redundancy: :math:`\lambda`, weight of correlations between different numbers.
        scale: What the loss is multiplied by.
        crop_scale: Smallest and largest share of the area of crops.
        hflip: Whether half of the views are mirrored.
        jitter: Largest changes of brightness, contrast, saturation and hue, in four of five views.
        grey: Share of the views that lose all colour.
        blur: Shares of first and of second views that are blurred.
        solarise: Shares of first and of second views whose bright pixels are inverted.
        seed: Decides weights, order and views, whatever the seed of the method is.
    """

    def __init__(
        self,
        arch: str = "resnet18",
        kwargs: dict[str, Any] | None = None,
        stem: str | None = "small",
        epochs: int = 1000,
        batch_size: int = 256,
        lr: float = 0.3,
        weight_decay: float = 1e-4,
        optimizer: Optimizer = "lars",
        warmup: float = 0.01,
        hidden: int = 2048,
        redundancy: float = 0.0051,
        scale: float = 0.1,
        crop_scale: tuple[float, float] = (0.08, 1.0),
        hflip: bool = True,
        jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.2, 0.1),
        grey: float = 0.2,
        blur: tuple[float, float] = (0.0, 0.0),
        solarise: tuple[float, float] = (0.0, 0.2),
        seed: int = 0,
    ) -> None:
        self.arch = arch
        self.kwargs = dict(kwargs or {})
        self.stem = stem
        self.hidden = hidden
        self.seed = check_seed(f"{_KEY}.seed", seed)
        first, second = (
            ViewSettings(
                crop_scale=(crop_scale[0], crop_scale[1]),
                flip=0.5 if hflip else 0.0,
                jitter=(jitter[0], jitter[1], jitter[2], jitter[3]),
                grey=grey,
                blur=blurred,
                solarise=solarised,
            )
            for blurred, solarised in zip(blur, solarise, strict=True)
        )
        self.training = TwinsTraining(
            epochs,
            batch_size,
            lr,
            weight_decay,
            optimizer,
            warmup,
            redundancy,
            scale,
            (first, second),
            self.seed,
        )
        self._folder: Path | None = None
        self._record: dict[str, Any] = {}

    @classmethod
    def tiny(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Train a small network for an epoch."""
        network = {"arch": "convnet2-w8-bn", "kwargs": None, "stem": None, "hidden": 16}
        return {**super().tiny(given), **network}

    def check(self, data: ImageDataModule) -> None:
        """Refuse settings outside their ranges, and networks without features."""
        self.training.check(_KEY)
        check_number(f"{_KEY}.hidden", self.hidden, at_least=2)
        for value in self.arguments["jitter"]:
            check_number(f"{_KEY}.jitter", value, at_least=0, at_most=1)
        check_number(f"{_KEY}.grey", self.arguments["grey"], at_least=0, at_most=1)
        if len(data.train) < 2:
            raise UserError(
                f"{data.name} has one training image: two views need others beside them."
            )
        self._draw(data.image_size)

    def _draw(self, image_size: int) -> tuple[nn.Module, int]:
        """Draw the network before its training, on the CPU, and count its features."""
        drawn = draw_network(
            self.arch,
            2,  # its classifier goes at once
            image_size,
            "barlow-twins",
            "network",
            seed=self.seed,
            stem=self.stem,
            **self.kwargs,
        )
        return drawn, replace_classifier(drawn, lambda _: nn.Identity())

    def prepare(self, data: ImageDataModule, folder: Path, where: Mapping[str, Any]) -> None:
        """Train the network, or find it trained; see :meth:`Ingredient.prepare`."""
        was_there = folder.is_dir()
        checkpoint = Checkpoint.beside(folder, folder.name)
        built = build_once(folder, lambda target: self._build(target, data, where, checkpoint))
        checkpoint.clear()
        self._folder = folder
        self._record = read_sealed(folder / _RECORD)
        what = "trained" if built else "reused" if was_there else "trained by another process"
        loss, seconds = self._record["loss"], self._record["seconds"]
        say(
            f"self-supervised {self.arch}: {self._record['width']} features, loss {loss:.4g}, {duration(seconds)}; "
            f"{what}, in {folder}"
        )

    def _build(
        self, target: Path, data: ImageDataModule, where: Mapping[str, Any], checkpoint: Checkpoint
    ) -> None:
        """Train the network and fill a folder with it; the caller's random state stays as it was."""
        network, width = self._draw(data.image_size)
        with isolate_rng():
            torch.manual_seed(derive_seed(self.seed, "barlow-twins", "projector"))
            module = TwinsModule(network, make_projector(width, self.hidden), data, self.training)
            try:
                run_training(
                    module,
                    what=f"self-supervised {self.arch}",
                    mend=f"Lower {_KEY}.lr (now {self.training.lr:g}).",
                    trainer={**where, "precision": "32-true"},
                    checkpoint=checkpoint,
                    max_epochs=self.training.epochs,
                    reload_dataloaders_every_n_epochs=1,  # every epoch draws its own order and views
                )
            except NotFiniteError:
                checkpoint.clear()  # nobody shall go on from there
                raise
        weights = {name: value.cpu() for name, value in network.state_dict().items()}
        losses = module.losses()
        parts = losses.tensor_split(min(_CURVE, len(losses)))
        save_tensors(target / _WEIGHTS, weights, {})
        record = {
            "width": width,
            "image_size": data.image_size,
            "seconds": checkpoint.elapsed,
            "loss": float(parts[-1].mean()),
            "losses": [float(part.mean()) for part in parts],
            "fingerprint": hash_tensors(weights),
        }
        write_sealed(target / _RECORD, record)

    @property
    def fingerprint(self) -> str:
        """Hash of the weights."""
        return str(self._prepared()["fingerprint"])

    @property
    def width(self) -> int:
        """Number of features."""
        return int(self._prepared()["width"])

    def facts(self) -> dict[str, Any]:
        """Return the seconds that the training took, its last loss, and the number of features."""
        return {name: self._prepared()[name] for name in ("seconds", "loss", "width")}

    def _prepared(self) -> dict[str, Any]:
        if not self._record:
            raise RuntimeError("The network is not trained yet: call prepare() first.")
        return self._record

    def network(self, device: torch.device) -> nn.Module:
        """Load the trained network.

        Args:
            device: Where it is wanted.

        Returns:
            From normalised images, float ``(n, 3, h, w)``, to features ``(n, d)``; in evaluation mode, its weights ask for
            no gradients.
        """
        record = self._prepared()
        assert self._folder is not None
        network, _ = self._draw(int(record["image_size"]))
        weights, _ = load_tensors(self._folder / _WEIGHTS)
        network.load_state_dict(weights)
        return nn.Sequential(network, nn.Flatten()).to(device).eval().requires_grad_(False)

    def untrained(self, image_size: int) -> nn.Module:
        """Return the network before its training, from normalised images to features, on the CPU."""
        return self._draw(image_size)[0]

    def count_features(self, image_size: int) -> int:
        """Count the features, before anything is prepared."""
        return self._draw(image_size)[1]

    def workload(self, sizes: Sizes) -> list[Stage]:
        """Count two views of every training image in every epoch; the projector is left out."""
        network, _ = self._draw(sizes.image_size)
        batch = min(self.training.batch_size, sizes.train_images)
        whole = len(batches_of(torch.arange(sizes.train_images), batch)) * batch
        stage = training_stage(
            "train the target model",
            self.arch,
            network,
            sizes,
            2 * self.training.epochs * whole,
            2 * batch,
            moments=1 if self.training.optimizer == "lars" else 2,
            files={"target model": weight_bytes(network)},
            note=f"{self.training.epochs} epochs in two views, without labels; once",
        )
        return [stage]


@torch.no_grad()
def features_of(network: nn.Module, images: Tensor, batch_size: int = 256) -> Tensor:
    """Compute the features of many images.

    Args:
        network: From normalised images to features.
        images: Float ``(n, 3, h, w)``, normalised, on the network's device.
        batch_size: Images at a time.

    Returns:
        float32 ``(n, d)``, on the same device.
    """
    return torch.cat([network(batch).float() for batch in images.split(batch_size)])
