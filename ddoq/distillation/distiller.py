"""What every method is: its needs, its work, its settings and keys, and how its shards become a set."""

import math
from abc import ABC
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import torch
from torch import Tensor

from ddoq.costs.workload import Parts, Sizes, Stage, network_flops
from ddoq.data import Data, ImageDataModule, LabelledData
from ddoq.decoding.form import SetForm
from ddoq.distillation.arguments import Configured, hashed
from ddoq.distillation.distilled_set import DistilledSet
from ddoq.distillation.ingredient import Ingredient, ingredients_of, prepare_all
from ddoq.distillation.items import ItemRunner
from ddoq.distillation.merging import merge_shards
from ddoq.distillation.ranks import one_device, start_ranks
from ddoq.distillation.run import Run
from ddoq.distillation.shard import Shard
from ddoq.errors import UserError
from ddoq.precision import Precision, without_autocast
from ddoq.priors.base import Prior
from ddoq.seeding import check_seed
from ddoq.storage.damage import read_or_set_aside
from ddoq.storage.fingerprints import hash_config
from ddoq.storage.keys import seen_of
from ddoq.storage.locks import locked
from ddoq.storage.provenance import largest_memory
from ddoq.storage.run_folder import RunFolder
from ddoq.teachers import Teacher

# Raised whenever a change of code changes what shards hold, so that old ones are not reused.
SHARD_FORMAT = 1


class _Unnamed(str):
    """Stands where a subclass must give a name; without one the class is abstract."""

    __slots__ = ()
    __isabstractmethod__ = True


class Distiller(ItemRunner[Data], Configured, ABC):
    """Turns a labelled dataset into a distilled set under a budget of images per class.

    A method sets ``method``, lists its work items and makes the shard of one (:class:`ItemRunner` runs them). What it
    needs beyond a prior and a teacher it takes as arguments of class :class:`Ingredient`. Its constructor's arguments
    are recorded and enter keys, see :class:`Configured`.

    Args:
        ipc: Images per class.
        seed: Decides every random draw; the same seed gives the same bits on any number of ranks.

    Raises:
        UserError: If the seed is none, see :func:`ddoq.seeding.check_seed`.
    """

    method: str = _Unnamed()
    works_on: ClassVar[type[LabelledData]] = ImageDataModule  # type: ignore[type-abstract]

    def __init__(self, ipc: int, seed: int = 0) -> None:
        super().__init__()
        self.ipc = ipc
        self.seed = check_seed("model.seed", seed)
        self.prior: Prior | None = None
        self.teacher: Teacher | None = None
        self._context: dict[str, Any] = {}

    @property
    def sees_normalized(self) -> bool:
        """Whether mean and deviation of the dataset decide its shards.

        True unless a method says otherwise: one that sees pixels alone, or images as its prior or its teacher
        normalises them, need not be done again for other numbers.
        """
        return True

    @property
    def needs_prior(self) -> bool:
        """Whether :meth:`attach` must be given a prior."""
        return False

    @property
    def needs_teacher(self) -> bool:
        """Whether :meth:`attach` must be given a teacher."""
        return False

    @property
    def precision(self) -> Precision:
        """What :meth:`distill` computes in, whatever students do; it enters keys and the record."""
        return "32-true"

    @property
    def ingredients(self) -> dict[str, Ingredient[Any]]:
        """What it needs beyond these: the ingredients among its arguments, by name."""
        return self.own_ingredients()

    def own_ingredients(self) -> dict[str, Ingredient[Any]]:
        """Return the ingredients among its arguments that it needs as it is set: all, unless overridden."""
        return ingredients_of(self.arguments)

    @property
    def reads_images(self) -> bool:
        """Whether training images decide its shards; a teacher alone decides those of some methods."""
        return True

    def weigh(self, shard: Shard) -> Tensor:
        """Weigh the images of a shard, float32 ``(n,)``, mean 1 within a class; ones unless overridden."""
        return torch.ones(len(shard))

    def check(self, data: Data) -> None:
        """Refuse settings that cannot work on this dataset, before anything runs.

        Raises:
            UserError: Naming the setting and the mend.
        """
        if not isinstance(data, self.works_on):
            raise UserError(
                f"{type(self).__name__} distils {self.works_on.holds}, but {data.name} holds {data.holds}: take a dataset of "
                f"{self.works_on.holds} (`data`), or a method for {data.holds} (`model`)."
            )
        if self.ipc < 1:
            raise UserError(f"ipc must be at least 1, not {self.ipc}.")
        for part in self.own_ingredients().values():
            part.check(data)

    def summarize(self, infos: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Fold the ``info`` of all shards into numbers for the results (JSON values)."""
        return {}

    def form(self, infos: Sequence[dict[str, Any]]) -> SetForm:
        """Say what the set is beyond rows of tensors: its decoder, the space of float images, the method's own recipe.

        Args:
            infos: The ``info`` of all shards, e.g. a learning rate that was learned with the images.
        """
        return SetForm()

    def workload(self, sizes: Sizes, parts: Parts) -> list[Stage] | None:
        """Say what distilling a dataset will take, from sizes and networks without values alone.

        ``ddoq-bench plan`` shows it, and the operations of its networks are recorded with the set.

        Args:
            sizes: Of the dataset.
            parts: The networks that the method works with.

        Returns:
            The stages in their order; None where the method does not say.
        """
        return None

    def _own_workload(self, parts: Parts) -> list[Stage] | None:
        """Say what distilling the attached dataset takes; see :meth:`workload`."""
        assert isinstance(self.data, ImageDataModule)
        return self.workload(Sizes.of(self.data), parts)

    def facts(self) -> dict[str, Any]:
        """Return further facts about the images for the set's record (JSON values), e.g. the codec they went through."""
        return {}

    def reused_seconds(self, info: dict[str, Any]) -> float:
        """Return the seconds of work behind a shard that was done earlier and kept, from its ``info``.

        They count in the set's cost, so that a method does not look cheap because another one ran before it.
        """
        return 0.0

    def attach(
        self, data: Data, *, prior: Prior | None = None, teacher: Teacher | None = None
    ) -> None:
        """Give the distiller what it works on.

        Args:
            data: The dataset, set up.
            prior: Encoder, decoder and generator, for methods that need one.
            teacher: Network trained on the real data, for methods that need one.

        Raises:
            UserError: If a needed part is missing or does not fit the dataset, or if that was not set up.
        """
        data.require_setup()
        self.check(data)
        if self.needs_prior and prior is None:
            raise UserError(
                f"{self.method} needs a prior: give the key `prior` in the configuration."
            )
        if self.needs_teacher and teacher is None:
            raise UserError(
                f"{self.method} needs a teacher: give the key `teacher` in the configuration."
            )
        self.data = data
        self.prior = prior if self.needs_prior else None
        self.teacher = teacher if self.needs_teacher else None
        for module in (self.prior, self.teacher):
            if module is not None:
                module.eval().requires_grad_(False)

    def shard_settings(self) -> dict[str, Any]:
        """Return what decides the contents of shards; methods may share shards by returning equal values."""
        return {"method": self.method, **self.settings()}

    def formats(self) -> dict[str, Any]:
        """Return what else decides the contents of shards and set, yet is no choice: it only enters their keys."""
        return {}

    @without_autocast()
    def run(self, trainer: L.Trainer, root: Path) -> tuple[DistilledSet, Path]:
        """Distil, or reuse what is there: only missing shards are made, and damaged ones again.

        Args:
            trainer: A trainer with ``inference_mode=False`` and the precision ``32-true``; its ranks share the work
                items.
            root: The cache folder.

        Returns:
            The distilled set and its folder.

        Raises:
            UserError: If something cannot be read or written, or for a trainer of another precision.
        """
        self._begin(trainer, root)
        target = RunFolder(root).distilled(self.set_name(self._context)).path
        stored = None
        if trainer.is_global_zero and DistilledSet.exists(target):
            stored = read_or_set_aside(target, DistilledSet.load)
        with self._alone(trainer, target):
            if trainer.world_size > 1 or (not DistilledSet.exists(target) and self._pending()):
                # With several ranks always: the other processes may start in here and must not miss it.
                trainer.predict(self, return_predictions=False)
            trainer.strategy.barrier("shards written")  # of every rank, before one of them merges
            if trainer.is_global_zero and not DistilledSet.exists(target):
                self._clear_checkpoints()
                self._merge().save(target)
            trainer.strategy.barrier("distilled set written")
        return DistilledSet.load(target) if stored is None else stored, target

    @without_autocast()
    def make_shards(self, trainer: L.Trainer, root: Path) -> list[Shard]:
        """Make the shards that are missing, on one device, and no set of them: a later run of it finds them.

        Args:
            trainer: As :meth:`run` takes it, of one rank.
            root: The cache folder.

        Returns:
            All shards, in the order of the work items.

        Raises:
            UserError: If something cannot be read or written, or for a trainer of another precision.
        """
        self._begin(trainer, root)
        run = self._running()
        waiting = f"waiting for {run.folder.shards(run.key)}: another process makes these shards"
        with locked(run.folder.shards_lock(run.key), waiting):
            if self._pending():
                trainer.predict(self, return_predictions=False)
            return [Shard.load(self._path(item))[0] for item in self.work_items(self.data)]

    def _begin(self, trainer: L.Trainer, root: Path) -> None:
        """Prepare the ingredients, and enter a run whose key says all that decides the shards."""
        _check_precision(trainer)
        if self.ingredients:
            start_ranks(trainer)
        self.prepare(root, one_device(trainer))
        self._context = self.context()
        self.enter(Run(RunFolder(root), self.shard_key(self._context), self.checkpoint_seconds))

    @contextmanager
    def _alone(self, trainer: L.Trainer, target: Path) -> Iterator[None]:
        """Let the first rank keep other runs from making the same shards, and take what they made meanwhile."""
        if not trainer.is_global_zero or DistilledSet.exists(target):
            yield
            return
        run = self._running()
        waiting = f"waiting for {target}: another process makes it, or shards that it shares"
        with locked(run.folder.shards_lock(run.key), waiting):
            yield

    def shard_key(self, context: Mapping[str, Any]) -> str:
        """Hash all that decides the shards.

        Args:
            context: What :meth:`context` returned.
        """
        return hash_config({"settings": hashed(self.shard_settings()), **context, **self.formats()})

    def set_name(self, context: Mapping[str, Any]) -> str:
        """Name the folder of the set by all that it holds, what its dataset and its classes are called included.

        Args:
            context: What :meth:`context` returned.
        """
        whole = {
            "method": self.method,
            "settings": hashed(self.settings()),
            "names": [self.data.name, self.data.classes.names],
            **context,
            **self.formats(),
        }
        return f"{self.method}-ipc{self.ipc}-{hash_config(whole)}"

    def prepare(self, root: Path, where: Mapping[str, Any]) -> None:
        """Prepare the ingredients; see :meth:`Ingredient.prepare`.

        Args:
            root: The output folder.
            where: Arguments of ``lightning.Trainer`` that say where to run.
        """
        prepare_all(self.own_ingredients(), self.data, root, where)

    def context(self) -> dict[str, Any]:
        """Return what beside settings decides shards and set; it enters their keys and the record."""
        context: dict[str, Any] = {
            "format": SHARD_FORMAT,
            "data": (
                self.data.normalized_fingerprint
                if self.sees_normalized
                else self.data.train_fingerprint
            ),
            "prior": self.prior.fingerprint if self.prior else None,
            "teacher": self.teacher.fingerprint if self.teacher else None,
            "precision": self.precision,
        }
        if self.ingredients:  # keys of methods without any stay what they were
            context["ingredients"] = {k: part.fingerprint for k, part in self.ingredients.items()}
        return context

    def _merge(self) -> DistilledSet:
        items = self.work_items(self.data)
        shards, records = zip(*(Shard.load(self._path(item)) for item in items), strict=True)
        seconds = math.fsum(
            record["seconds"] + self.reused_seconds(shard.info)
            for shard, record in zip(shards, records, strict=True)
        )
        # Of all that is behind the images, even where latents or shards were reused.
        parts = Parts(
            None if self.prior is None else self.prior.networks(),
            None if self.teacher is None else self.teacher.network,
        )
        stages = self._own_workload(parts)
        metadata = {
            "method": self.method,
            "ipc": self.ipc,
            "seed": self.seed,
            "settings": self.settings(),
            "context": self._context,
            "data": {
                "name": self.data.name,
                **seen_of(self.data.describe(), normalized=self.sees_normalized),
            },
            "class_keys": self.data.classes.keys,
            **self._ingredient_facts(),
            **self.facts(),
            "statistics": self.summarize([shard.info for shard in shards]),
            "cost": {
                "seconds": seconds,
                "work_items": len(items),
                "flops": network_flops(stages),
                "peak_memory": largest_memory(record.get("peak_memory") for record in records),
            },
            "provenance": records[0]["provenance"],
        }
        weights = [self.weigh(shard) for shard in shards]
        form = self.form([shard.info for shard in shards])
        return merge_shards(shards, weights, self.data.classes.names, metadata, form)

    def _ingredient_facts(self) -> dict[str, Any]:
        facts = {name: part.facts() for name, part in self.ingredients.items()}
        return {"ingredients": facts} if any(facts.values()) else {}


def _check_precision(trainer: L.Trainer) -> None:
    """Refuse a trainer that would convert or autocast what a method has in float32."""
    if str(trainer.precision) != "32-true":
        raise UserError(
            f"Methods distil under a trainer of precision 32-true, not {trainer.precision}: those that can compute in "
            "another one have an argument `precision`."
        )
