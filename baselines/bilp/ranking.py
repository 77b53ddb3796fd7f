"""How hard real images are to learn: their losses in the first epochs of a training."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddoq.bounds import check_number
from ddoq.console import duration, say
from ddoq.costs.stages import forward_stage, training_stage
from ddoq.costs.workload import Sizes, Stage
from ddoq.data import ImageDataModule
from ddoq.decoding.transform import Transform
from ddoq.distillation.ingredient import Ingredient
from ddoq.networks import draw_network
from ddoq.optimisation.steps import StepLoop
from ddoq.optimisation.trainers import device_of
from ddoq.seeding import check_seed, generator_for
from ddoq.storage.checkpoints import Checkpoint
from ddoq.storage.files import load_tensors, save_tensors
from ddoq.storage.fingerprints import hash_tensors
from ddoq.storage.folders import build_once
from ddoq.trajectories.recording import TrainingImages

_FILE = "losses.safetensors"
_BATCH = 512  # images at once that are measured and not learnt


class LossRanking(Ingredient):
    """Trains networks on the real images for a few epochs, and keeps the loss of every image after each.

    Made once for a dataset and these settings. A killed training goes on from its last epoch but for at most a minute.

    Args:
        arch: Their network.
        epochs: Of each; the paper finds 5 enough.
        networks: How many are trained; losses are averaged over them.
        lr: Step size.
        momentum: Of the gradient descent.
        weight_decay: Of that.
        batch_size: Images a step.
        seed: Decides weights and orders, whatever the seed of the method is.
    """

    def __init__(
        self,
        arch: str = "convnet3",
        epochs: int = 5,
        networks: int = 1,
        lr: float = 0.01,
        momentum: float = 0.9,
        weight_decay: float = 0.0005,
        batch_size: int = 256,
        seed: int = 0,
    ) -> None:
        self.arch = arch
        self.epochs = epochs
        self.networks = networks
        self.lr = lr
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.seed = check_seed("ranking.seed", seed)
        self._losses = torch.empty(0)
        self._record: dict[str, Any] = {}

    @classmethod
    def tiny(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Train one small network."""
        return {**super().tiny(given), "arch": "convnet2-w8", "networks": 1}

    def check(self, data: ImageDataModule) -> None:
        """Refuse settings outside their ranges, and a network that does not take the images."""
        for name in ("epochs", "networks", "batch_size"):
            check_number(f"ranking.{name}", getattr(self, name), at_least=1)
        check_number("ranking.lr", self.lr, above=0)
        check_number("ranking.momentum", self.momentum, at_least=0, below=1)
        check_number("ranking.weight_decay", self.weight_decay, at_least=0)
        self.network(data.num_classes, data.image_size)

    def network(self, num_classes: int, image_size: int, number: int = 0) -> nn.Module:
        """Draw a network before its training, on the CPU."""
        return draw_network(self.arch, num_classes, image_size, "ranking", number, seed=self.seed)

    def prepare(self, data: ImageDataModule, folder: Path, where: Mapping[str, Any]) -> None:
        """Train the networks, or find what they left; see :meth:`Ingredient.prepare`."""

        def build(target: Path) -> None:
            checkpoint = Checkpoint.beside(folder, folder.name)
            losses = _Trainings(self, data, device_of(where)).run(checkpoint)
            facts = {"seconds": checkpoint.elapsed, "loss": float(losses[:, -1].mean())}
            save_tensors(target / _FILE, {"losses": losses}, facts)
            checkpoint.clear()

        built = build_once(folder, build)
        tensors, self._record = load_tensors(folder / _FILE)
        self._losses = tensors["losses"]
        seconds, loss = self._record["seconds"], self._record["loss"]
        say(
            f"ranking: {self.networks} of {self.arch}, {self.epochs} epochs each, loss {loss:.4g}, {duration(seconds)}; "
            f"{'made' if built else 'reused'}, in {folder}"
        )

    @property
    def losses(self) -> Tensor:
        """The loss of every training image, float32 ``(networks, epochs, n)``; needs :meth:`prepare`."""
        if not self._record:
            raise RuntimeError("Nothing is ranked yet: call prepare() first.")
        return self._losses

    @property
    def fingerprint(self) -> str:
        """Hash of all losses."""
        return hash_tensors({"losses": self.losses})

    def facts(self) -> dict[str, Any]:
        """Return the seconds that it took, and the mean loss in the end."""
        return {name: self._record[name] for name in ("seconds", "loss")}

    def workload(self, sizes: Sizes) -> list[Stage]:
        """Count the training, and the look at all images after every epoch."""
        network = self.network(sizes.num_classes, sizes.image_size)
        passes = self.networks * self.epochs * sizes.train_images
        batch = min(self.batch_size, sizes.train_images)
        what = "1 network" if self.networks == 1 else f"{self.networks} networks"
        note = f"{what}, {self.epochs} epochs; once"
        training = training_stage(
            "rank: train", self.arch, network, sizes, passes, batch, moments=1, note=note
        )
        return [training, forward_stage("rank: measure", self.arch, network, sizes, passes)]


class _Trainings:
    """The trainings of a ranking: a step of its loop is an epoch of a network, after which all images are measured."""

    def __init__(self, ranking: LossRanking, data: ImageDataModule, device: torch.device) -> None:
        self._ranking = ranking
        self._data = data
        self._device = device
        transform = Transform.normalize(data.mean, data.std).to(device)
        self._images = TrainingImages(data.train, transform, device)
        self._losses: list[Tensor] = []
        self._begin(0)

    def _begin(self, number: int) -> None:
        ranking, data = self._ranking, self._data
        network = ranking.network(data.num_classes, data.image_size, number)
        self._network = network.to(self._device)
        self._optimizer = torch.optim.SGD(
            network.parameters(), ranking.lr, ranking.momentum, weight_decay=ranking.weight_decay
        )

    def run(self, checkpoint: Checkpoint) -> Tensor:
        """Train all networks, from where a killed process left them."""
        ranking = self._ranking
        loop = StepLoop(
            ranking.networks * ranking.epochs,
            state=self._state,
            restore=self._restore,
            checkpoint=checkpoint,
            what="ranking",
            mend="Lower model.init_args.ranking.init_args.lr.",
        )
        for step in loop:
            number, epoch = divmod(step, ranking.epochs)
            if epoch == 0:
                self._begin(number)
            self._learn(number, epoch)
            self._losses.append(self._measure())
            loop.loss = self._losses[-1].mean()
        losses = torch.stack(self._losses)
        return losses.reshape(ranking.networks, ranking.epochs, losses.shape[-1])

    def _learn(self, *keys: int) -> None:
        """Pass over all images once."""
        self._network.train()
        generator = generator_for(self._ranking.seed, "ranking", "order", *keys)
        order = torch.randperm(len(self._images), generator=generator)
        with torch.enable_grad():
            for positions in order.split(self._ranking.batch_size):
                images, labels = self._images.batch(positions)
                self._optimizer.zero_grad()
                F.cross_entropy(self._network(images), labels).backward()
                self._optimizer.step()

    @torch.no_grad()
    def _measure(self) -> Tensor:
        """Return the loss of every image, float32 on the CPU."""
        self._network.eval()
        losses = []
        for positions in torch.arange(len(self._images)).split(_BATCH):
            images, labels = self._images.batch(positions)
            losses.append(F.cross_entropy(self._network(images), labels, reduction="none"))
        return torch.cat(losses).float().cpu()

    def _state(self) -> dict[str, Any]:
        return {
            "network": self._network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "losses": self._losses,
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        self._network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._losses = list(state["losses"])
