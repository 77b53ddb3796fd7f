"""A method that learns its images stage by stage, each stage beside the images of those before."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from baselines.pixels import PixelMethod, inmost
from ddoq.bounds import check_number
from ddoq.costs.workload import Parts, Sizes, Stage
from ddoq.data import ImageDataModule
from ddoq.decoding.form import SetForm, SetRecipe
from ddoq.distillation.distiller import Distiller
from ddoq.distillation.shard import Shard, WorkItem
from ddoq.distillation.stages import Earlier, StageSet, WarmUp
from ddoq.distillation.tables import at_budget
from ddoq.distillation.wrapper import Wrapper
from ddoq.errors import UserError
from ddoq.smoke import lower

_STAGES = "stages"  # in the record of a shard: those of the base, stage by stage


class PDD(Wrapper):
    """Splits the budget into stages of equally many images, each of which runs the whole base.

    In a stage the base sees all images so far, of which only the new ones change. Its networks (or, of a method that
    matches trajectories, its experts before they learn from real images) have learnt from the sets of the stages before.
    Students are trained in stages, too: ``recipe: {name: own}``. With one stage the set is the base's, bit for bit.

    Source: X. Chen, Y. Yang, Z. Wang and B. Mirzasoleiman, *Data Distillation Can Be Like Vodka: Distilling More Times For
    Better Quality*, ICLR 2024; VITA-Group/ProgressiveDD at 844fa9a. How long networks learn from earlier sets, and from how
    many of them steps draw, is ours.

    Args:
        base: The method, one that optimises pixels: DM, IDM, M3D, DC, MTT, FTD or SATM, or pruned by a wrapper.
        stages: How many; they divide the images per class.
        networks: How many networks learn from earlier sets in a stage, where a step of the base draws one.
        epochs: Passes of such a network, or expert, over the images of each stage and those before it.
        lr: Step size of that, where the base learns none.
        momentum: Of that.
        batch_train: Images a step of that.
        stage_epochs: Epochs of a student in each stage.
        ipc: Images per class in all; None leaves the base's.
        seed: Of the base; None leaves it.
    """

    method = "pdd"

    def __init__(
        self,
        base: Distiller,
        stages: int = 5,
        networks: int = 20,
        epochs: int = 100,
        lr: float = 0.01,
        momentum: float = 0.9,
        batch_train: int = 256,
        stage_epochs: int = 500,
        ipc: int | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__(base, ipc, seed)
        self.method = f"pdd-{base.method}"
        self.stages = stages
        self.warm_up = WarmUp(networks, epochs, lr, momentum, batch_train)
        self.stage_epochs = stage_epochs
        self._where: Mapping[str, Any] = {}

    @classmethod
    def tiny(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Take two stages of one image, and one network."""
        stages = lower(given.get("stages", 2), 2)
        changes = {**super().tiny(given), "stages": stages, "networks": 1, "stage_epochs": 1}
        ipc = {"ipc": stages} if given.get("ipc") is not None else {}
        return {**changes, **ipc}

    @property
    def joint(self) -> bool:
        """Stages depend on the images of all classes."""
        return self.stages > 1 or self.base.joint

    def check(self, data: ImageDataModule) -> None:
        """Refuse stages that do not divide the budget, and bases that cannot be staged."""
        for name in ("stages", "stage_epochs"):
            check_number(name, getattr(self, name), at_least=1)
        warm = self.warm_up
        counts = {"networks": warm.networks, "epochs": warm.epochs, "batch_train": warm.batch_size}
        for name, count in counts.items():
            check_number(name, count, at_least=1)
        check_number("lr", self.warm_up.lr, above=0)
        check_number("momentum", self.warm_up.momentum, at_least=0, below=1)
        core = inmost(self.base)
        stageable = isinstance(core, PixelMethod) and core.continues
        if not stageable or any(isinstance(part, PDD) for part in self._chain()):
            raise UserError(
                f"PDD cannot learn {type(core).__name__} in stages: it needs a base that optimises pixels beside fixed ones (DM, "
                "IDM, M3D, DC, MTT, FTD or SATM) and is in no stages yet."
            )
        super().check(data)
        if self.ipc % self.stages:
            raise UserError(
                f"{self.ipc} images per class cannot be shared by {self.stages} stages: choose model.init_args.stages that "
                "divides ipc."
            )
        if self.stages > 1:
            self._of_stage(data).check(data)

    def _chain(self) -> list[Distiller]:
        """List the wrappers inside."""
        chain: list[Distiller] = []
        base = self.base
        while isinstance(base, Wrapper):
            chain.append(base)
            base = base.base
        return chain

    def _of_stage(self, data: ImageDataModule) -> Distiller:
        """Return the base with the budget of a stage, and all else as it is at the whole budget."""
        whole = at_budget(self.base, data.num_classes)
        return whole.with_arguments(ipc=self.ipc // self.stages)

    def prepare(self, root: Path, where: Mapping[str, Any]) -> None:
        """Prepare the base; where it runs, later stages do."""
        super().prepare(root, where)
        self._where = where

    def distill_jointly(self, items: Sequence[WorkItem]) -> list[Shard]:
        """Let the base do its items in every stage; all ranks get the images of all."""
        if self.stages == 1:
            return super().distill_jointly(items)
        made: list[StageSet] = []
        stages: list[list[Shard]] = []
        for number in range(self.stages):
            base = self._stage(number, tuple(made))
            stages.append(base.distill_jointly(items))
            if number + 1 < self.stages:
                made.append(self._gather(stages[-1]))
        return [_joined(shards) for shards in zip(*stages, strict=True)]

    def _stage(self, number: int, made: tuple[StageSet, ...]) -> Distiller:
        """Make the base of a stage, which goes on from what the stages before made."""
        base = self.adopt(self._of_stage(self.base.data), f"stage-{number}")
        core, chosen = inmost(base), inmost(self.base)
        assert isinstance(core, PixelMethod)
        assert isinstance(chosen, PixelMethod)
        if core.sampling is None:  # a wrapper around this one may have set it
            core.sampling = chosen.sampling
        if core.latents is None:  # likewise
            core.latents = chosen.latents
        if made:
            core.continue_from(Earlier(made, self.warm_up, self.output, self._where))
        return base

    def _gather(self, shards: Sequence[Shard]) -> StageSet:
        """Give every rank the images of a stage, with the rate that was learned with them."""
        core = inmost(self.base)
        assert isinstance(core, PixelMethod)
        labels: list[Tensor] = []
        for shard in shards:
            assert shard.labels is not None
            labels.append(shard.labels)
        rates = [core.learned_lr(shard.info) for shard in shards]
        given = [
            torch.tensor(math.nan if rate is None else rate, dtype=torch.float64) for rate in rates
        ]
        rate = float(self.all_gather_items(given)[0])
        return StageSet(
            torch.cat(self.all_gather_items([shard.images.to(self.device) for shard in shards])),
            torch.cat(self.all_gather_items([part.to(self.device) for part in labels])),
            None if math.isnan(rate) else rate,
        )

    def form(self, infos: Sequence[dict[str, Any]]) -> SetForm:
        """Say that students are trained in stages, at the rate that each stage learned."""
        if self.stages == 1:
            return super().form(infos)
        forms = [self.base.form(part) for part in self._by_stage(infos)]
        recipes = [form.recipe for form in forms if form.recipe is not None]
        if len(recipes) < self.stages:
            return forms[-1]
        last = recipes[-1]
        overrides = {**last.overrides, "staged": True, "epochs": self.stage_epochs}
        rates = tuple(recipe.lr for recipe in recipes if recipe.lr is not None)
        return replace(forms[-1], recipe=SetRecipe(last.name, overrides, last.lr, rates))

    def summarize(self, infos: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Fold each stage as the base does; what stands at the top is the last one's."""
        if self.stages == 1:
            return super().summarize(infos)
        stages = [self.base.summarize(part) for part in self._by_stage(infos)]
        return {**stages[-1], _STAGES: stages}

    def _by_stage(self, infos: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
        return [[info[_STAGES][number] for info in infos] for number in range(self.stages)]

    def workload(self, sizes: Sizes, parts: Parts) -> list[Stage] | None:
        """Run the base in every stage, on the images so far, and train networks on those before it."""
        core = inmost(self.base)
        if self.stages == 1 or not isinstance(core, PixelMethod):
            return super().workload(sizes, parts)
        whole = at_budget(self.base, sizes.num_classes)
        each = self.ipc // self.stages
        planned: list[Stage] = []
        for number in range(self.stages):
            name = f"stage {number + 1}: "
            shown = (number + 1) * each
            stages = whole.with_arguments(ipc=shown).workload(sizes, parts)
            if stages is None:
                return None
            if number:
                earlier = sizes.num_classes * each * (number * (number + 1) // 2)
                stages = [*core.later_stages(sizes, earlier, self.warm_up), *stages]
            last = number + 1 == self.stages
            planned += [
                replace(stage, name=name + stage.name, files=stage.files if last else {})
                for stage in stages
            ]
        return planned


def _joined(shards: Sequence[Shard]) -> Shard:
    """Put what the stages made of an item into one shard."""
    labels = [shard.labels for shard in shards if shard.labels is not None]
    numbers = [torch.full((len(shard),), number) for number, shard in enumerate(shards)]
    return Shard(
        torch.cat([shard.images for shard in shards]),
        torch.cat(labels),
        info={_STAGES: [shard.info for shard in shards]},
        stages=torch.cat(numbers),
    )
