"""A method that optimises what a generator makes images of, instead of their pixels (GLaD)."""

from typing import Any

from torch import Tensor

from baselines.glad.generators import GeneratorSource
from baselines.pixels import FirstImages, PixelMethod, inmost
from ddoq.bounds import check_number
from ddoq.costs.flops import count_flops, on_meta
from ddoq.costs.stages import network_stage
from ddoq.costs.workload import Parts, Sizes, Stage
from ddoq.data import ImageDataModule
from ddoq.distillation.distiller import Distiller
from ddoq.distillation.wrapper import Wrapper
from ddoq.errors import UserError
from ddoq.optimisation.generated import BOUND, CHUNK, Decode, GeneratorLatents
from ddoq.optimisation.pixels import Parameterisation
from ddoq.priors.base import Prior
from ddoq.priors.generators import Generator, Latents
from ddoq.priors.generators.base import split_number
from ddoq.seeding import generator_for
from ddoq.teachers import Teacher


class LatentWrapper(Wrapper):
    """Has a base optimise latents of a generator in the place of pixels; what GLaD and H-GLaD share.

    Args:
        base: The method, one that optimises pixels and no grids.
        generator: Where the generator comes from.
        lr: Step size of features; None takes that of the base's kind.
        lr_style: Step size of styles; None takes that of the base's kind.
        bound: Features are kept in [-bound, bound].
        chunk: Images that go through the generator at a time.
        ipc: Images per class; None leaves the base's.
        seed: Of the base; None leaves it.
    """

    def __init__(
        self,
        base: Distiller,
        generator: GeneratorSource,
        lr: float | None,
        lr_style: float | None,
        bound: float,
        chunk: int,
        ipc: int | None,
        seed: int | None,
    ) -> None:
        super().__init__(base, ipc, seed)
        self.generator = generator
        self.lr = lr
        self.lr_style = lr_style
        self.bound = bound
        self.chunk = chunk
        self._loaded: list[Generator] = []  # in a list, so that it is no part of this module

    @property
    def needs_prior(self) -> bool:
        """Whether the generator is of the prior, or the base needs one."""
        return self.generator.needs_prior or super().needs_prior

    @property
    def core(self) -> PixelMethod:
        """The method inside of all wrappers."""
        core = inmost(self.base)
        assert isinstance(core, PixelMethod)
        return core

    @property
    def rates(self) -> tuple[float, float]:
        """Step sizes of features and styles."""
        usual = self.core.latent_rates
        assert usual is not None
        return (
            usual[0] if self.lr is None else self.lr,
            usual[1] if self.lr_style is None else self.lr_style,
        )

    def check(self, data: ImageDataModule) -> None:
        """Refuse bases without pixels to replace, and settings outside their ranges."""
        core = inmost(self.base)
        name = type(self).__name__
        chain = [self.base]
        while isinstance(chain[-1], Wrapper):
            chain.append(chain[-1].base)
        if any(isinstance(part, LatentWrapper) for part in chain):
            raise UserError(
                f"{name} is around a method that optimises latents already: leave one of them out."
            )
        if not isinstance(core, PixelMethod) or core.latent_rates is None:
            raise UserError(
                f"{name} cannot put latents in the place of the pixels of {type(core).__name__}: it needs a base that optimises "
                "these (DM, DC, MTT, FTD or SATM; IDM or M3D without a grid). Set model.init_args.base to one of them."
            )
        if getattr(core, "factor", 1) > 1:
            raise UserError(
                f"{name} makes whole images, but {type(core).__name__} stores grids of {core.factor} x {core.factor} smaller "
                "ones: set model.init_args.base.init_args.factor to 1."
            )
        for key, value in zip(("lr", "lr_style"), self.rates, strict=True):
            check_number(key, value, at_least=0)
        check_number("bound", self.bound, above=0)
        check_number("chunk", self.chunk, at_least=1)
        super().check(data)
        if self.generator.splits(data) is not None:
            self.check_splits(data)

    def check_splits(self, data: ImageDataModule) -> None:
        """Refuse split points that the generator lacks; called once they are known."""
        raise NotImplementedError

    def attach(
        self, data: ImageDataModule, *, prior: Prior | None = None, teacher: Teacher | None = None
    ) -> None:
        """Take data and parts, and give the generator what it comes from."""
        super().attach(data, prior=prior, teacher=teacher)
        self.generator.give(data, self.prior)
        self.check_splits(data)
        self._loaded.clear()

    def hand_on(self) -> None:
        """Have the base optimise latents."""
        super().hand_on()
        self.core.latents = self.latents

    def opened(self) -> Generator:
        """Load the generator, once."""
        if not self._loaded:
            self._loaded.append(self.generator.generator())
        return self._loaded[0].to(self.device)

    def latents(self, method: PixelMethod, first: FirstImages) -> Parameterisation:
        """Make what a method optimises; see :data:`baselines.pixels.MakeLatents`."""
        raise NotImplementedError

    def begin(self, method: PixelMethod, first: FirstImages) -> Latents:
        """Make the latents that classes begin with, before the first layer; each image has a generator of its own."""
        seen: dict[int, int] = {}
        draws = []
        for label in first.labels.tolist():
            seen[label] = seen.get(label, 0) + 1
            keys = ("glad", *method.stage_keys, label, seen[label] - 1)
            draws.append(generator_for(self.seed, *keys))
        pixels = first.transform.invert(first.images)
        return self.opened().begin(self.generator.numbers(first.labels), pixels, draws)

    def decoding(self, first: FirstImages, start: int) -> Decode:
        """Return the generator from a layer on, to the space that images are matched in."""
        generator = self.opened()

        def decode(features: Tensor, styles: Tensor | None) -> Tensor:
            return first.transform.apply(generator.decode(features, styles, start))

        return decode

    def facts(self) -> dict[str, Any]:
        """Add what the set knows beyond its budget, and what its latents began with."""
        facts = super().facts()
        earlier = facts.get("knowledge")
        known = self.generator.knowledge
        knowledge = known if earlier is None else f"{earlier}; {known}"
        return {**facts, "knowledge": knowledge, "latents_begin_with": self.opened().begins}

    def workload(self, sizes: Sizes, parts: Parts) -> list[Stage] | None:
        """Add the generator's passes to what the base takes."""
        stages = super().workload(sizes, parts)
        core = inmost(self.base)
        if stages is None or not isinstance(core, PixelMethod):
            return stages
        counted = self.generator.counted(sizes, parts)
        if counted is None:
            return [*stages, Stage.unknown("make images", "what the generator takes is not known")]
        network, run = counted
        images = sizes.num_classes * self.ipc
        made = network_stage(
            "make images",
            "generator",
            network,
            run,
            core.descents(sizes.num_classes) * images,
            min(self.chunk, images),
            flops=count_flops(lambda: run(on_meta(network), 1)),
            note="a pass is an image made twice, and a gradient back through all layers",
        )
        return [*stages, made]


class GLaD(LatentWrapper):
    """Optimises what a generator makes images of, f before one of its layers and styles w, by the loss of another method.

    The loss is differentiated by images that have no graph; a second pass carries this gradient back through the generator,
    some images at a time. So the base need not know of the generator. What is stored are images, as the base stores them.

    Source: G. Cazenavette, T. Wang, A. Torralba, A. A. Efros and J.-Y. Zhu, *Generalizing Dataset Distillation via Deep
    Generative Prior*, CVPR 2023; constants from GeorgeCazenavette/glad at fe62863.

    Args:
        base: The method, one that optimises pixels: DM, DC, MTT, FTD or SATM, or one of these within a wrapper. Its step
            size of pixels is not used, its momentum is.
        generator: Where the generator comes from: ``PriorDecoder``, ``StyleGAN``, or one of your own.
        split: Name of the layer before which the features are optimised; None takes the middle one.
        lr: Step size of features; None takes that of the base's kind: DC 1, DM 10, MTT 10,000.
        lr_style: Step size of styles; None takes that of the base's kind: DC 0.001, DM 0.01, MTT 10.
        bound: Features are kept in [-bound, bound].
        chunk: Images that go through the generator at a time.
        ipc: Images per class; None leaves the base's.
        seed: Of the base; None leaves it.
    """

    method = "glad"

    def __init__(
        self,
        base: Distiller,
        generator: GeneratorSource,
        split: str | None = None,
        lr: float | None = None,
        lr_style: float | None = None,
        bound: float = BOUND,
        chunk: int = CHUNK,
        ipc: int | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__(base, generator, lr, lr_style, bound, chunk, ipc, seed)
        self.method = f"glad-{base.method}"
        self.split = split

    def check_splits(self, data: ImageDataModule) -> None:
        """Refuse a split point that the generator lacks."""
        self._number(data)

    def _number(self, data: ImageDataModule) -> int:
        splits = self.generator.splits(data)
        assert splits is not None
        return split_number(splits, self.split, "split", type(self.generator).__name__)

    def latents(self, method: PixelMethod, first: FirstImages) -> Parameterisation:
        """Make the latents before the chosen layer."""
        number = self._number(self.data)
        begun = self.opened().advance(self.begin(method, first), 0, number)
        lr, lr_styles = self.rates
        return GeneratorLatents(
            self.decoding(first, number),
            begun.features,
            begun.styles,
            lr=lr,
            lr_styles=lr_styles,
            momentum=first.momentum,
            bound=self.bound,
            chunk=self.chunk,
            before=first.before,
        )

    def facts(self) -> dict[str, Any]:
        """Add where the generator was split."""
        splits = self.generator.splits(self.data)
        assert splits is not None
        return {**super().facts(), "split": splits[self._number(self.data)].name}
