"""Latents of a generator that are optimised before one layer after the other, from its beginning to near its end (H-GLaD)."""

from collections.abc import Mapping, Sequence
from typing import Any

from baselines.glad.distiller import LatentWrapper
from baselines.glad.generators import GeneratorSource
from baselines.h_glad.judging import Judge
from baselines.h_glad.sweep import SweptLatents
from baselines.pixels import FirstImages, PixelMethod, inmost
from ddoq.bounds import check_number
from ddoq.costs.workload import Parts, Sizes, Stage
from ddoq.data import ImageDataModule
from ddoq.distillation.distiller import Distiller
from ddoq.distillation.wrapper import Wrapper
from ddoq.errors import UserError
from ddoq.networks import draw_network
from ddoq.optimisation.generated import BOUND, CHUNK
from ddoq.optimisation.pixels import Parameterisation
from ddoq.priors.base import Prior
from ddoq.priors.generators import Split
from ddoq.priors.generators.base import split_number
from ddoq.seeding import generator_for
from ddoq.teachers import Teacher

_CHOSEN = "chosen"  # in the record of a shard


class HGLaD(LatentWrapper):
    """Optimises latents of a generator as GLaD does, but before one layer after the other, with a fresh optimiser each.

    Before a layer the base takes some steps. Of these, and the latents as they came, those whose images are nearest to the
    real ones of their class are pushed through the layer. How near is told by mean maps of networks of random weights, each
    map weighted by where the network sees the class.

    Source: X. Zhong et al., *Hierarchical Features Matter: A Deep Exploration of Progressive Parameterization Method for
    Dataset Distillation*, CVPR 2025; constants from ndhg1213/H-PD at a6a5d4c, in which the choice of steps and the weights of
    maps are left out: these follow its paper's description.

    Args:
        base: The method; see :class:`baselines.glad.GLaD`. Its number of iterations follows from layers and steps.
        generator: Where the generator comes from.
        first: Name of the layer before which it begins; None takes the first.
        last: Name of the layer before which it ends; None takes the last.
        steps: Iterations of the base before each layer; None takes those of its kind: DM 10, DC and MTT 100.
        judges: Networks that say how near images are.
        judged: Real images of a class that they are shown, at most.
        lr: Step size of features; None takes that of the base's kind.
        lr_style: Step size of styles; None takes that of the base's kind.
        bound: Features are kept in [-bound, bound].
        chunk: Images that go through the generator at a time.
        ipc: Images per class; None leaves the base's.
        seed: Of the base, and of the networks that judge; None leaves it.
    """

    method = "h-glad"

    def __init__(
        self,
        base: Distiller,
        generator: GeneratorSource,
        first: str | None = None,
        last: str | None = None,
        steps: int | None = None,
        judges: int = 5,
        judged: int = 512,
        lr: float | None = None,
        lr_style: float | None = None,
        bound: float = BOUND,
        chunk: int = CHUNK,
        ipc: int | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__(base, generator, lr, lr_style, bound, chunk, ipc, seed)
        self.method = f"h-glad-{base.method}"
        self.first = first
        self.last = last
        self.steps = steps
        self.judges = judges
        self.judged = judged
        self._judges: dict[tuple[int, ...], Judge] = {}

    @classmethod
    def tiny(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Take one step a layer, under one judge."""
        return {**super().tiny(given), "steps": 1, "judges": 1, "judged": 4}

    def check(self, data: ImageDataModule) -> None:
        """Refuse settings outside their ranges."""
        if self.steps is not None:
            check_number("steps", self.steps, at_least=1)
        check_number("judges", self.judges, at_least=1)
        check_number("judged", self.judged, at_least=1)
        super().check(data)

    def check_splits(self, data: ImageDataModule) -> None:
        """Refuse layers that the generator lacks, and a last one before the first."""
        splits = self.generator.splits(data)
        assert splits is not None
        self._layers(splits)

    def _layers(self, splits: Sequence[Split]) -> list[int]:
        """Number the layers before which it optimises."""
        origin = type(self.generator).__name__
        first = 0 if self.first is None else split_number(splits, self.first, "first", origin)
        last = len(splits) - 1
        if self.last is not None:
            last = split_number(splits, self.last, "last", origin)
        if last < first:
            raise UserError(
                f"last is {self.last!r}, which comes before first, {splits[first].name!r}: the layers of {origin} are "
                f"{', '.join(split.name for split in splits)}, in this order."
            )
        return list(range(first, last + 1))

    @property
    def _steps(self) -> int:
        return self.core.layer_steps if self.steps is None else self.steps

    def attach(
        self, data: ImageDataModule, *, prior: Prior | None = None, teacher: Teacher | None = None
    ) -> None:
        """Take data and parts, and give the base as many iterations as all layers take."""
        super().attach(data, prior=prior, teacher=teacher)
        splits = self.generator.splits(data)
        assert splits is not None
        iterations = self._steps * len(self._layers(splits))
        self.base = with_iterations(self.base, iterations)
        self._attach_base(self.base, data)
        self._judges.clear()

    def latents(self, method: PixelMethod, first: FirstImages) -> Parameterisation:
        """Make the latents that move through the generator."""
        splits = self.generator.splits(self.data)
        assert splits is not None
        layers = self._layers(splits)
        generator = self.opened()
        lr, lr_styles = self.rates
        judge = self._judge(method, first)
        classes = self.data.num_classes
        per_iteration = method.descents(classes) // int(method.arguments["iterations"])
        return SweptLatents(
            lambda number: self.decoding(first, number),
            generator.advance,
            generator.advance(self.begin(method, first), 0, layers[0]),
            layers,
            [splits[number].name for number in layers],
            self._steps * per_iteration,
            lambda images: judge.distance(images, first.labels),
            lr=lr,
            lr_styles=lr_styles,
            momentum=first.momentum,
            bound=self.bound,
            chunk=self.chunk,
            before=first.before,
        )

    def _judge(self, method: PixelMethod, first: FirstImages) -> Judge:
        """Show networks the real images of classes, once."""
        labels = tuple(first.labels.unique().tolist())
        if labels not in self._judges:
            networks = [
                draw_network(
                    method.matched_arch,
                    self.data.num_classes,
                    self.data.image_size,
                    *("h-glad", "judge", number),
                    seed=self.seed,
                )
                .to(self.device)
                .eval()
                .requires_grad_(False)
                for number in range(self.judges)
            ]
            real = {
                label: method.real_images(label, first.transform).draw(
                    self.judged, generator_for(self.seed, "h-glad", "judged", label)
                )
                for label in labels
            }
            self._judges[labels] = Judge(networks, real)
        return self._judges[labels]

    def summarize(self, infos: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Add which step was taken on from each layer, on average over items."""
        whole = super().summarize(infos)
        told = [info[_CHOSEN] for info in infos if _CHOSEN in info]
        if not told:
            return whole
        means = {name: sum(one[name] for one in told) / len(told) for name in told[0]}
        return {**whole, _CHOSEN: means}

    def workload(self, sizes: Sizes, parts: Parts) -> list[Stage] | None:
        """Count the base with as many iterations as all layers take; what the judges see is left out."""
        splits = self.generator.planned(sizes, parts)
        if splits is None:
            return super().workload(sizes, parts)
        iterations = self._steps * len(self._layers(splits))
        if int(self.core.arguments["iterations"]) == iterations:
            return super().workload(sizes, parts)
        base = with_iterations(self.base, iterations)
        return self.with_arguments(base=base, ipc=None, seed=None).workload(sizes, parts)


def with_iterations(method: Distiller, iterations: int) -> Distiller:
    """Return a method that takes so many iterations, within whatever wrappers it is in."""
    if isinstance(method, Wrapper):
        return method.with_arguments(base=with_iterations(method.base, iterations))
    assert inmost(method) is method
    return method.with_arguments(iterations=iterations)
