"""Distillers around distillers: they prune the data of another method, run it in stages, weigh its images anew."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from ddoq.costs.workload import Parts, Sizes, Stage
from ddoq.data import ImageDataModule
from ddoq.decoding.form import SetForm
from ddoq.distillation.arguments import describe
from ddoq.distillation.distiller import Distiller
from ddoq.distillation.ingredient import Ingredient
from ddoq.distillation.run import Run
from ddoq.distillation.shard import Shard, WorkItem
from ddoq.errors import UserError
from ddoq.precision import Precision
from ddoq.priors.base import Prior
from ddoq.teachers import Teacher


class Wrapper(Distiller):
    """A distiller that takes a distiller and is one; a subclass overrides the part in which it differs.

    All else is the base's: what it needs, its items, shards, weights and figures. With nothing overridden the set is
    the base's, bit for bit. Wrappers nest.

    A wrapper has no budget and no seed of its own: ``ipc`` and ``seed`` are those of its base. Where they are given to
    the wrapper, they replace the base's, so that a grid over ``model.init_args.ipc`` reaches it.

    Args:
        base: The distiller inside.
        ipc: Images per class; None leaves the base's.
        seed: Decides every random draw; None leaves the base's.

    Raises:
        UserError: If the base takes no such argument, or if the wrapper would be around itself.
    """

    def __init__(self, base: Distiller, ipc: int | None = None, seed: int | None = None) -> None:
        given = {name: value for name, value in (("ipc", ipc), ("seed", seed)) if value is not None}
        changes = {name: value for name, value in given.items() if value != getattr(base, name)}
        for name, value in changes.items():
            if name not in base.arguments:
                raise UserError(
                    f"{type(self).__name__} has {name}: {value}, but its base {type(base).__name__} takes no "
                    f"{name}. Leave {name} out."
                )
        if changes:
            base = base.with_arguments(**changes)
        super().__init__(base.ipc, base.seed)
        self.base = base
        self._adopted: list[Distiller] = []

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; a new base is recorded, and refused where this wrapper is in it."""
        if name == "base":
            chain: list[Any] = [value]
            while self is not chain[-1] and isinstance(chain[-1], Wrapper):
                chain.append(chain[-1].base)
            if self is chain[-1]:
                names = " around ".join(type(part).__name__ for part in (self, *chain))
                raise UserError(
                    f"A wrapper cannot be around itself: {names}. Give the innermost one a method as its `base`."
                )
            known = {"base": value, "ipc": value.ipc, "seed": value.seed}
            self.arguments.update({k: v for k, v in known.items() if k in self.arguments})
        super().__setattr__(name, value)

    @property
    def chooses(self) -> bool:
        """Whether it chooses the real images that the base's steps see, of those that it gives the base."""
        return False

    @property
    def sees_normalized(self) -> bool:
        """Whether the base does."""
        return self.base.sees_normalized

    @property
    def needs_prior(self) -> bool:
        """Whether the base needs a prior."""
        return self.base.needs_prior

    @property
    def needs_teacher(self) -> bool:
        """Whether the base needs a teacher."""
        return self.base.needs_teacher

    @property
    def needs_gradient(self) -> bool:
        """Whether the base takes gradients."""
        return self.base.needs_gradient

    @property
    def precision(self) -> Precision:
        """What the base computes in."""
        return self.base.precision

    @property
    def joint(self) -> bool:
        """Whether the base's items run in step."""
        return self.base.joint

    @property
    def reads_images(self) -> bool:
        """Whether the base does."""
        return self.base.reads_images

    @property
    def ingredients(self) -> dict[str, Ingredient[Any]]:
        """Its own ingredients, and those of the base under ``base.``."""
        inner = {f"base.{name}": part for name, part in self.base.ingredients.items()}
        return {**self.own_ingredients(), **inner}

    def own_ingredients(self) -> dict[str, Ingredient[Any]]:
        """Return those among its own arguments."""
        return super().own_ingredients()

    def base_data(self) -> ImageDataModule:
        """Return the dataset that the base works on: this wrapper's, unless overridden.

        It is asked for once the wrapper's own ingredients are prepared, and before the base's are. What it returns must
        follow from the dataset, the settings and the ingredients alone, e.g. ``self.data.with_train(...)``.
        """
        return self.data

    def settings(self) -> dict[str, Any]:
        """Return the arguments, with those of the base inside; ``ipc`` and ``seed``, which both share, once."""
        settings = {**super().settings(), "ipc": self.ipc, "seed": self.seed}
        base = describe(self.base)
        others = {k: v for k, v in base["init_args"].items() if k not in ("ipc", "seed")}
        return {**settings, "base": {**base, "init_args": others}}

    def check(self, data: ImageDataModule) -> None:
        """Check the base, and the ingredients of both."""
        self.base.check(data)
        for part in self.own_ingredients().values():
            part.check(data)

    def attach(
        self, data: ImageDataModule, *, prior: Prior | None = None, teacher: Teacher | None = None
    ) -> None:
        """Take data and parts, for the base as well; see :meth:`Distiller.attach`."""
        super().attach(data, prior=prior, teacher=teacher)
        self._attach_base(self.base, data)
        self.ipc = self.base.ipc  # a method without a budget knows it only now

    def _attach_base(self, base: Distiller, data: ImageDataModule) -> None:
        base.attach(data, prior=self.prior, teacher=self.teacher)

    def prepare(self, root: Path, where: Mapping[str, Any]) -> None:
        """Prepare its own ingredients, give the base its data, and have the base prepare its own."""
        super().prepare(root, where)
        self.hand_on()
        self.base.prepare(root, where)

    def hand_on(self) -> None:
        """Give the base what it works on, once the wrapper's own ingredients are prepared."""
        data = self.base_data()
        if data is not self.base.data:
            self._attach_base(self.base, data)

    def context(self) -> dict[str, Any]:
        """Return its own context, and that of a base which works on other data."""
        context, inner = super().context(), self.base.context()
        if inner["data"] != context["data"] or "base" in inner:
            context["base"] = inner
        return context

    def enter(self, run: Run) -> None:
        """Take part in a run, with the base."""
        super().enter(run)
        self.base.enter(run)

    def adopt(self, base: Distiller, scope: str, data: ImageDataModule | None = None) -> Distiller:
        """Let a further distiller work inside this run, e.g. the base with other arguments for one stage.

        Call it while items are done. Its checkpoints lie beside those of the base, under a name of their own.

        Args:
            base: What to adopt, e.g. ``self.base.with_arguments(ipc=2)``.
            scope: Part of the names of its checkpoints, e.g. ``stage-1``.
            data: What it works on; the base's data where None.

        Returns:
            The same distiller, ready to ``distill``.
        """
        self._attach_base(base, self.base.data if data is None else data)
        inner = base
        while isinstance(inner, Wrapper):  # its ingredients are those of the base, and prepared
            inner.hand_on()
            inner = inner.base
        base.enter(self._running().scoped(scope))
        base.trainer = self.trainer
        base.to(self.device)
        base.on_predict_start()
        self._adopted.append(base)
        return base

    def on_predict_start(self) -> None:
        """Let the base begin."""
        super().on_predict_start()
        self.base.on_predict_start()

    def on_predict_end(self) -> None:
        """Let the base end, and all that were adopted."""
        super().on_predict_end()
        for base in (self.base, *self._adopted):
            base.on_predict_end()
        self._adopted.clear()

    def work_items(self, data: ImageDataModule) -> list[WorkItem]:
        """List the base's items."""
        return self.base.work_items(data)

    def distill(self, item: WorkItem) -> Shard:
        """Let the base do an item."""
        return self.base.distill(item)

    def distill_jointly(self, items: Sequence[WorkItem]) -> list[Shard]:
        """Let the base do its joint items."""
        return self.base.distill_jointly(items)

    def weigh(self, shard: Shard) -> Tensor:
        """Weigh as the base does."""
        return self.base.weigh(shard)

    def summarize(self, infos: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Fold as the base does."""
        return self.base.summarize(infos)

    def form(self, infos: Sequence[dict[str, Any]]) -> SetForm:
        """Say what the base says."""
        return self.base.form(infos)

    def workload(self, sizes: Sizes, parts: Parts) -> list[Stage] | None:
        """Say what the base takes."""
        return self.base.workload(sizes, parts)

    def formats(self) -> dict[str, Any]:
        """Return what enters the base's keys."""
        return self.base.formats()

    def facts(self) -> dict[str, Any]:
        """Return the base's facts."""
        return self.base.facts()

    def reused_seconds(self, info: dict[str, Any]) -> float:
        """Count as the base does."""
        return self.base.reused_seconds(info)
