import inspect
import json

import pytest
import torch
from toy_methods import ClassMeans, Descent, JointDescent, KilledError, MeanImages, Trivial

from baselines.random_selection import RandomSelection
from baselines.sre2l import SRe2L
from baselines.whole_dataset import WholeDataset
from ddoq.data.splits import SubsetSplit
from ddoq.ddoq import DDOQ
from ddoq.distillation.distiller import Distiller
from ddoq.distillation.ingredient import Ingredient
from ddoq.distillation.items import ItemRunner
from ddoq.distillation.shard import Shard
from ddoq.distillation.wrapper import Wrapper
from ddoq.errors import UserError
from ddoq.networks import build_network
from ddoq.storage.keys import seen_of
from ddoq.teachers import Teacher


class Inverted(Wrapper):
    """Turns the base's images into their negatives."""

    method = "inverted"

    def distill(self, item) -> Shard:
        shard = super().distill(item)
        shard.images = 255 - shard.images
        return shard


class Share(Ingredient):
    """Chooses a share of each class: its first images."""

    def __init__(self, share: float = 0.5) -> None:
        self.share = share

    def prepare(self, data, folder, where) -> None:
        parts = [data.train.of_class(label) for label in range(data.num_classes)]
        self.positions = torch.cat([part[: int(len(part) * self.share)] for part in parts])

    @property
    def fingerprint(self) -> str:
        return f"{self.positions.tolist()}"


class Pruned(Wrapper):
    """Shows the base a part of the data."""

    method = "pruned"

    def __init__(
        self, base: Distiller, share: Share, ipc: int | None = None, seed: int | None = None
    ) -> None:
        super().__init__(base, ipc, seed)
        self.share = share

    def base_data(self):
        positions = self.share.positions.sort().values
        return self.data.with_train(SubsetSplit(self.data.train, positions))


class TwoStages(Wrapper):
    """Has the base make each half of the images, the second half with another seed."""

    method = "two-stages"

    def stage(self, number: int) -> Distiller:
        ipc = (self.ipc + number) // 2
        base = self.base.with_arguments(ipc=ipc, seed=self.seed + number)
        base.kill_at = self.base.kill_at if number else {}
        base.steps_done = self.base.steps_done
        return self.adopt(base, f"stage-{number}")

    def distill(self, item) -> Shard:
        return self._joined([self.stage(number).distill(item) for number in (0, 1)])

    def distill_jointly(self, items) -> list[Shard]:
        stages = [self.stage(number).distill_jointly(items) for number in (0, 1)]
        return [self._joined(shards) for shards in zip(*stages, strict=True)]

    def _joined(self, shards) -> Shard:
        return Shard(
            torch.cat([shard.images for shard in shards]),
            torch.cat([shard.labels for shard in shards]),
        )


def run(distiller, data, trainer, root, **parts):
    distiller.checkpoint_seconds = 0
    distiller.attach(data, **parts)
    return distiller.run(trainer, root)


def teacher_for(data):
    torch.manual_seed(0)
    network = build_network("convnet2-w8-bn", data.num_classes, data.image_size)
    network(torch.rand(32, 3, data.image_size, data.image_size))
    record = {"class_names": data.classes.names, "class_keys": data.classes.keys}
    return Teacher(
        network.eval(),
        arch="convnet2-w8-bn",
        image_size=data.image_size,
        accuracy=0.5,
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        **record,
    )


METHODS = {
    "random": lambda: RandomSelection(2),
    "full": WholeDataset,
    "ddoq": lambda: DDOQ(2),
    "sre2l": lambda: SRe2L(2, iterations=2, jitter=1, class_block=2),
    "descent": lambda: Descent(2),
    "joint": lambda: JointDescent(2),
    "ingredient": lambda: MeanImages(1, ClassMeans(0.5)),
}


@pytest.mark.parametrize("name", METHODS)
def test_a_wrapper_that_changes_nothing_is_its_base(
    name, coloured_noise, pooling_prior, trainer, tmp_path
):
    data = coloured_noise()
    parts = {"prior": pooling_prior(), "teacher": teacher_for(data)}
    first, _ = run(METHODS[name](), data, trainer, tmp_path / "base", **parts)
    nested = Trivial(Trivial(METHODS[name]()))
    second, folder = run(nested, data, trainer, tmp_path / "wrapped", **parts)
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.labels, second.labels)
    assert torch.equal(first.weights, second.weights)
    for key in ("ipc", "seed", "statistics", "data"):
        assert first.metadata[key] == second.metadata[key]
    assert first.metadata["cost"]["flops"] == second.metadata["cost"]["flops"]
    assert folder.name.startswith(f"trivial-ipc{first.metadata['ipc']}-")


def test_every_hook_of_a_distiller_reaches_the_base():
    """What a method may override must be the base's in a wrapper, or a trivial one would differ from its base."""
    hooks = {
        name
        for kind in (Distiller, ItemRunner)
        for name, value in vars(kind).items()
        if not name.startswith("_") and (inspect.isfunction(value) or isinstance(value, property))
    }
    its_own = {
        *(
            "run",
            "make_shards",
            "output",
            "shard_settings",
            "shard_key",
            "set_name",
        ),  # what a run does, and under which key
        *("checkpoint", "joint_checkpoint", "all_gather_items"),  # through the run that both are in
        *("predict_dataloader", "predict_step"),
    }
    assert hooks - its_own <= set(vars(Wrapper))
    assert hooks - its_own > {"weigh", "form", "attach"}


def test_only_what_is_overridden_differs(coloured_noise, trainer, tmp_path):
    plain, _ = run(RandomSelection(2), coloured_noise(), trainer, tmp_path)
    negative, _ = run(Inverted(RandomSelection(2)), coloured_noise(), trainer, tmp_path)
    positive, _ = run(Inverted(Inverted(RandomSelection(2))), coloured_noise(), trainer, tmp_path)
    assert torch.equal(negative.images, 255 - plain.images)
    assert torch.equal(positive.images, plain.images)


def test_settings_hold_those_of_the_base(coloured_noise, trainer, tmp_path):
    _, folder = run(Trivial(Inverted(Descent(2, seed=1))), coloured_noise(), trainer, tmp_path)
    record = json.loads((folder / "metadata.json").read_text())
    assert record["settings"] == {
        "ipc": 2,
        "seed": 1,
        "base": {
            "class_path": "Inverted",
            "init_args": {"base": {"class_path": "Descent", "init_args": {"steps": 6}}},
        },
    }
    # Rows of several seeds are one row of a table: only the seed at the top tells them apart.
    one, other = (Trivial(Descent(2, seed=seed)).settings() for seed in (1, 2))
    assert {**one, "seed": 0} == {**other, "seed": 0} != one


def test_ipc_and_seed_are_the_base_s_and_replace_them_where_given():
    base = Descent(2, seed=1, steps=9)
    kept = Trivial(base)
    assert kept.base is base
    assert (kept.ipc, kept.seed) == (2, 1)
    changed = Trivial(Trivial(base), ipc=5, seed=7)
    assert (changed.ipc, changed.base.ipc, changed.base.base.ipc) == (5, 5, 5)
    assert (changed.seed, changed.base.seed, changed.base.base.seed) == (7, 7, 7)
    assert changed.base.base.steps == 9
    assert base.ipc == 2
    assert changed.settings() == Trivial(Trivial(Descent(5, seed=7, steps=9))).settings()
    assert Trivial(base, ipc=2).settings() == kept.settings()


def test_a_base_without_a_budget_takes_none():
    with pytest.raises(UserError, match="Trivial has ipc: 3, but its base WholeDataset takes no"):
        Trivial(WholeDataset(), ipc=3)


def test_a_wrapper_around_itself_is_refused():
    inner = Trivial(Descent(1))
    outer = Inverted(inner)
    with pytest.raises(UserError, match=r"around itself: Trivial around Trivial\. Give the inner"):
        inner.base = inner
    with pytest.raises(UserError, match=r"around itself: Trivial around Inverted around Trivial"):
        inner.base = outer
    assert isinstance(inner.base, Descent)


@pytest.mark.parametrize("base", [None, Descent, "Descent", ClassMeans()])
def test_a_base_of_the_wrong_class_is_refused(base):
    with pytest.raises(UserError, match="Trivial: the argument 'base' must be of the class Distil"):
        Trivial(base)


def test_needs_are_those_of_the_base(coloured_noise):
    data = coloured_noise()
    assert Trivial(DDOQ(1)).needs_prior
    assert not Trivial(DDOQ(1)).needs_teacher
    assert Trivial(SRe2L(1)).needs_teacher
    assert Trivial(Trivial(SRe2L(1))).needs_gradient
    assert Trivial(JointDescent(1)).joint
    with pytest.raises(UserError, match="trivial needs a prior"):
        Trivial(DDOQ(1)).attach(data)
    with pytest.raises(UserError, match="ipc is 21, but class"):
        Trivial(RandomSelection(21)).attach(data)
    with pytest.raises(UserError, match="gain must be above 0"):
        Trivial(MeanImages(1, ClassMeans(-1.0))).attach(data)


def test_the_base_may_see_other_data(coloured_noise, trainer, tmp_path):
    data = coloured_noise()
    distilled, _ = run(Pruned(WholeDataset(), Share(0.25)), data, trainer, tmp_path)
    assert len(distilled) == 15
    seen = {"name": data.name, **seen_of(data.describe())}
    assert distilled.metadata["data"] == json.loads(json.dumps(seen))
    context = distilled.metadata["context"]
    assert context["base"]["data"] != context["data"] == data.train_fingerprint
    assert set(context["ingredients"]) == {"share"}
    outer, _ = run(Trivial(Pruned(WholeDataset(), Share(0.25))), data, trainer, tmp_path)
    assert torch.equal(outer.images, distilled.images)
    assert set(outer.metadata["context"]["ingredients"]) == {"base.share"}
    more, _ = run(Pruned(WholeDataset(), Share(0.5)), data, trainer, tmp_path)
    assert len(more) == 30


def test_ingredients_of_the_base_see_its_data(coloured_noise, trainer, tmp_path):
    data = coloured_noise()
    means = ClassMeans()
    run(Pruned(MeanImages(1, means), Share(0.5)), data, trainer, tmp_path)
    half = data.train.load(data.train.of_class(0)[:10].tolist()).float().mean(0) / 255
    assert torch.allclose(means.means[0], half)


@pytest.mark.parametrize("base", [Descent, JointDescent])
def test_stages_of_a_wrapper_resume(base, coloured_noise, trainer, tmp_path):
    data = coloured_noise()
    whole, _ = run(TwoStages(base(3)), data, trainer, tmp_path / "whole")
    assert torch.bincount(whole.labels).tolist() == [3, 3, 3]
    wrapper = TwoStages(base(3))
    wrapper.base.kill_at = {"class-0001": 4}
    with pytest.raises(KilledError, match="class-0001 at step 4"):
        run(wrapper, data, trainer, tmp_path / "killed")
    left = {path.name for path in (tmp_path / "killed").rglob("*.checkpoint")}
    assert any(name.startswith("class-0001.stage-1.") for name in left)
    again = TwoStages(base(3))
    resumed, _ = run(again, data, trainer, tmp_path / "killed")
    assert resumed.fingerprint == whole.fingerprint
    assert again.base.steps_done["class-0001"] == 2  # of 6 in the second stage; the first was whole
    assert list((tmp_path / "killed").rglob("*.checkpoint")) == []
