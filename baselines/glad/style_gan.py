"""A style-based generator that is trained on the dataset when a method first asks for it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision.utils import save_image

from baselines.glad.generators import KEY, Counted, GeneratorSource, pull_through
from ddoq.bounds import check_number
from ddoq.console import duration, say
from ddoq.costs.flops import count_flops, on_meta
from ddoq.costs.stages import device_of as device_of_network
from ddoq.costs.stages import network_stage
from ddoq.costs.workload import Parts, Sizes, Stage
from ddoq.data import ImageDataModule
from ddoq.finite import check_weights
from ddoq.optimisation.trainers import device_of
from ddoq.priors.generators import Generator, Split
from ddoq.priors.generators.style import Discriminator, StyleGenerator, StyleShape
from ddoq.priors.generators.training import StyleTraining, train_style
from ddoq.seeding import check_seed, generator_for
from ddoq.storage.checkpoints import Checkpoint
from ddoq.storage.files import load_tensors, save_tensors
from ddoq.storage.fingerprints import hash_module
from ddoq.storage.folders import build_once

_FILE, _SHEET = "generator.safetensors", "samples.png"
_COLUMNS, _ROWS = 8, 20  # of the sheet of samples: images of a class, and classes


class StyleGAN(GeneratorSource):
    """A small class-conditional style-based generator, trained on the dataset when a method first asks for it.

    Latents are drawn: numbers that the mapping network turns, with the class, into styles, beside the learned constant.

    Sources: T. Karras et al., *Analyzing and Improving the Image Quality of StyleGAN*, CVPR 2020, for the parts; sizes are
    ours, for small images.

    Args:
        steps: Of the training.
        batch_size: Real images a step.
        channels: Of maps at full size; each level before has twice as many.
        max_channels: The most.
        noise_width: Numbers that an image is drawn as.
        style_width: Numbers of a style.
        mapping_layers: Of the mapping network.
        lr: Of Adam, for generator and discriminator.
        r1: Weight of the penalty on the discriminator's gradient.
        r1_interval: Steps from one penalty to the next.
        ema: Decay of the average of the generator's weights.
        hflip: Whether half of the real images are mirrored.
        seed: Decides weights, images and noise, whatever the seed of the method is.
    """

    def __init__(
        self,
        steps: int = 20_000,
        batch_size: int = 64,
        channels: int = 64,
        max_channels: int = 256,
        noise_width: int = 64,
        style_width: int = 128,
        mapping_layers: int = 2,
        lr: float = 0.002,
        r1: float = 1.0,
        r1_interval: int = 16,
        ema: float = 0.998,
        hflip: bool = False,
        seed: int = 0,
    ) -> None:
        self.training = StyleTraining(
            steps, batch_size, lr, r1, r1_interval, ema, hflip, check_seed(f"{KEY}.seed", seed)
        )
        self._widths = (noise_width, style_width, mapping_layers, channels, max_channels)
        self._folder: Path | None = None
        self._record: dict[str, Any] = {}

    @classmethod
    def tiny(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Train small networks for two steps."""
        return {**super().tiny(given), "channels": 8, "max_channels": 8, "style_width": 8}

    def check(self, data: ImageDataModule) -> None:
        """Refuse settings outside their ranges, and images whose side it cannot reach."""
        self.training.check(KEY)
        names = ("noise_width", "style_width", "mapping_layers", "channels", "max_channels")
        for name, value in zip(names, self._widths, strict=True):
            check_number(f"{KEY}.{name}", value, at_least=1)
        self._shape(data.image_size, data.num_classes).sides()

    def _shape(self, image_size: int, num_classes: int) -> StyleShape:
        return StyleShape(image_size, num_classes, *self._widths)

    def splits(self, data: ImageDataModule) -> tuple[Split, ...]:
        """Return those of its structure."""
        return self._shape(data.image_size, data.num_classes).splits()

    def prepare(self, data: ImageDataModule, folder: Path, where: Mapping[str, Any]) -> None:
        """Train the generator, or find it trained; see :meth:`Ingredient.prepare`."""

        def build(target: Path) -> None:
            checkpoint = Checkpoint.beside(folder, folder.name)
            shape = self._shape(data.image_size, data.num_classes)
            made, losses = train_style(
                shape,
                self.training,
                data,
                device=device_of(where),
                checkpoint=checkpoint,
                mend=f"Lower {KEY}.lr (now {self.training.lr:g}), or raise {KEY}.r1.",
            )
            check_weights(made, "The generator", f"Lower {KEY}.lr.")
            facts = {
                "seconds": checkpoint.elapsed,
                "losses": losses,
                "images": len(data.train),
                "size": [data.image_size, data.num_classes],
                "fingerprint": hash_module(made),
            }
            save_tensors(target / _FILE, made.state_dict(), facts)
            save_samples(target / _SHEET, made, self.training.seed)
            checkpoint.clear()

        built = build_once(folder, build)
        self._folder = folder
        self._record = load_tensors(folder / _FILE)[1]
        last = {name: values[-1] for name, values in self._record["losses"].items()}
        say(
            f"generator: losses {last['generator']:.3g} and {last['discriminator']:.3g} (discriminator), "
            f"{duration(self._record['seconds'])}; {'trained' if built else 'reused'}, in {folder}"
        )

    def _prepared(self) -> dict[str, Any]:
        if not self._record:
            raise RuntimeError("The generator is not trained yet: call prepare() first.")
        return self._record

    @property
    def fingerprint(self) -> str:
        """Hash of the weights."""
        return str(self._prepared()["fingerprint"])

    def facts(self) -> dict[str, Any]:
        """Return the seconds that the training took."""
        return {"seconds": self._prepared()["seconds"]}

    def generator(self) -> Generator:
        """Load the trained generator."""
        size, classes = self._prepared()["size"]
        made = StyleGenerator(self._shape(size, classes), self.training.seed)
        assert self._folder is not None
        made.load_state_dict(load_tensors(self._folder / _FILE)[0])
        return made.eval().requires_grad_(False)

    @property
    def knowledge(self) -> str:
        """That it was trained on the whole dataset."""
        images = self._prepared()["images"]
        return f"generator StyleGAN {self.fingerprint}, trained on all {images} training images"

    def workload(self, sizes: Sizes) -> list[Stage]:
        """Count both networks: a step sends a batch through the generator twice and through the discriminator thrice."""
        shape = self._shape(sizes.image_size, sizes.num_classes)
        network = nn.ModuleList([_blank_style(shape), Discriminator(shape)])

        def run(copied: nn.Module, count: int) -> None:
            assert isinstance(copied, nn.ModuleList)
            made, judge = copied[0], copied[1]
            assert isinstance(made, StyleGenerator)
            device = device_of_network(copied)
            labels = torch.zeros(count, dtype=torch.int64, device=device)
            numbers = torch.zeros(count, shape.noise_width, device=device)
            noises = [torch.zeros(count, *one, device=device) for one in made.noise_shapes()]
            with torch.enable_grad():
                judge(made(labels, numbers, noises), labels).sum().backward()

        passes, batch = self.training.steps * self.training.batch_size, self.training.batch_size
        return [
            network_stage(
                "train the generator",
                "StyleGAN",
                network,
                run,
                2 * passes,
                batch,
                flops=count_flops(lambda: run(on_meta(network), 1)),
                copies=4,
                note="a pass is forward and backward through both networks; once",
            )
        ]

    def planned(self, sizes: Sizes, parts: Parts) -> tuple[Split, ...]:
        """Return those of its structure."""
        return self._shape(sizes.image_size, sizes.num_classes).splits()

    def counted(self, sizes: Sizes, parts: Parts) -> Counted | None:
        """Count all its blocks."""
        return _counted(_blank_style(self._shape(sizes.image_size, sizes.num_classes)))


@torch.no_grad()
def save_samples(path: Path, generator: StyleGenerator, seed: int) -> None:
    """Draw samples, one row a class.

    Args:
        path: The picture.
        generator: In evaluation mode, on the CPU.
        seed: Decides what is drawn.
    """
    labels = torch.arange(min(generator.shape.num_classes, _ROWS)).repeat_interleave(_COLUMNS)
    draws = [generator_for(seed, "style", "sheet", index) for index in range(len(labels))]
    latents = generator.begin(labels, torch.empty(0), draws)
    images = generator.decode(latents.features, latents.styles)
    save_image(images.clamp(0, 1), path, nrow=_COLUMNS, padding=1)


def _blank_style(shape: StyleShape) -> StyleGenerator:
    """Make a generator whose weights nobody looks at; no random state is moved."""
    with torch.random.fork_rng(devices=[]):
        return StyleGenerator(shape)


def _counted(generator: Generator) -> Counted:
    first = generator.splits[0].shape

    def run(copied: nn.Module, count: int) -> None:
        assert isinstance(copied, StyleGenerator)
        device = device_of_network(copied)
        styles = torch.zeros(count, len(copied.splits), copied.shape.style_width, device=device)
        copied.requires_grad_(False)
        pull_through(
            lambda leaf: copied.decode(leaf, styles), torch.zeros(count, *first, device=device)
        )

    return generator, run
