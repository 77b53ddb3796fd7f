import json

import pytest
import torch
from toy_methods import ClassMeans, Descent, KilledError, MeanImages

from ddoq.distillation.ingredient import Ingredient, ingredients_of, prepare_all
from ddoq.errors import UserError
from ddoq.optimisation.steps import StepLoop
from ddoq.storage.checkpoints import Checkpoint
from ddoq.storage.files import load_tensors, save_tensors
from ddoq.storage.fingerprints import hash_config, hash_tensors
from ddoq.storage.folders import build_once
from ddoq.storage.run_folder import RunFolder


class Doubled(Ingredient):
    """Twice another ingredient."""

    def __init__(self, of: ClassMeans) -> None:
        self.of = of

    def prepare(self, data, folder, where) -> None:
        self.means = 2 * self.of.means

    @property
    def fingerprint(self) -> str:
        return hash_tensors({"means": self.means})


def builds(root):
    return len(list((root / "ingredients").rglob("built-by-*")))


def run(distiller, data, trainer, root):
    distiller.attach(data)
    return distiller.run(trainer, root)


def test_a_method_gets_what_it_names(coloured_noise, trainer, tmp_path):
    data = coloured_noise()
    distilled, folder = run(MeanImages(1, ClassMeans()), data, trainer, tmp_path)
    expected = data.train.load(data.train.of_class(1)).float().mean(0)
    assert torch.allclose(distilled.images[1].float(), expected, atol=0.5)
    record = json.loads((folder / "metadata.json").read_text())
    means = ClassMeans()
    prepare_all({"means": means}, data, tmp_path, {})
    assert record["context"]["ingredients"] == {"means": means.fingerprint}
    assert record["ingredients"] == {"means": means.facts()}
    assert record["settings"]["means"] == {"class_path": "ClassMeans", "init_args": {"gain": 1.0}}


def test_it_is_built_once_and_told_where_to_run(coloured_noise, trainer, tmp_path):
    first, again = ClassMeans(), ClassMeans()
    run(MeanImages(1, first), coloured_noise(), trainer, tmp_path)
    run(MeanImages(1, again), coloured_noise(), trainer, tmp_path)
    run(MeanImages(2, again), coloured_noise(), trainer, tmp_path)
    assert builds(tmp_path) == 1
    assert len({*first.folders, *again.folders}) == 1
    assert first.where["accelerator"] == "cpu"
    assert first.where["devices"] == 1
    assert first.where["precision"] == "32-true"


def test_its_fingerprint_enters_the_keys_of_shards_and_of_the_set(
    coloured_noise, trainer, tmp_path, monkeypatch
):
    _, plain = run(MeanImages(1, ClassMeans()), coloured_noise(), trainer, tmp_path)
    monkeypatch.setattr(ClassMeans, "fingerprint", "other")
    _, changed = run(MeanImages(1, ClassMeans()), coloured_noise(), trainer, tmp_path)
    assert plain != changed
    assert sum(path.is_dir() for path in (tmp_path / "shards").iterdir()) == 2


def test_keys_without_any_are_what_they_were(coloured_noise, trainer, tmp_path):
    method = Descent(1)
    distilled, folder = run(method, coloured_noise(), trainer, tmp_path)
    assert "ingredients" not in distilled.metadata["context"]
    assert "ingredients" not in distilled.metadata
    keyed = {"settings": method.shard_settings(), **distilled.metadata["context"]}
    assert RunFolder(tmp_path).shards(hash_config(keyed)).is_dir()
    whole = {
        "method": "descent",
        "settings": {"ipc": 1, "seed": 0, "steps": 6},
        "names": ["coloured-noise", ["colour 0", "colour 1", "colour 2"]],
        **distilled.metadata["context"],
    }
    assert folder.name == f"descent-ipc1-{hash_config(whole)}"


def test_other_settings_data_or_formats_get_another_folder(coloured_noise, tmp_path, monkeypatch):
    def folder(data, gain=1.0, **where):
        means = ClassMeans(gain)
        prepare_all({"means": means}, data, tmp_path, where)
        return means.folders[0]

    data = coloured_noise()
    folders = [
        folder(data),
        folder(data, gain=0.5),
        folder(coloured_noise(per_class=3)),
        folder(data, precision="bf16-mixed"),
    ]
    assert folder(data, precision="32-true") == folders[0]
    monkeypatch.setattr(ClassMeans, "format", 2)
    folders.append(folder(data))
    assert len(set(folders)) == 5
    assert all(path.parent == tmp_path / "ingredients" for path in folders)


def test_one_that_holds_another_comes_after_it(coloured_noise, tmp_path):
    means = ClassMeans()
    doubled = Doubled(means)
    parts = ingredients_of({"doubled": doubled, "means": means, "ipc": 3})
    assert list(parts) == ["doubled.of", "doubled", "means"]
    prepare_all(parts, coloured_noise(), tmp_path, {})
    assert torch.equal(doubled.means, 2 * means.means)
    assert len(means.folders) == 1  # once, though it occurs twice


def test_checks_come_before_anything_is_prepared(coloured_noise):
    means = ClassMeans(0)
    with pytest.raises(UserError, match="gain must be above 0, not 0"):
        MeanImages(1, means).attach(coloured_noise())
    assert means.folders == []


def test_a_wrong_class_is_refused():
    with pytest.raises(
        UserError,
        match=r"MeanImages: the argument 'means' must be of the class ClassMeans, not Dou",
    ):
        MeanImages(1, Doubled(ClassMeans()))


class Trained(Ingredient):
    """A number that is doubled in steps."""

    def __init__(self, steps: int = 5) -> None:
        self.steps = steps
        self.kill_at: int | None = None
        self.steps_done = 0

    def prepare(self, data, folder, where) -> None:
        path = Checkpoint.beside(folder, folder.name).path
        checkpoint = Checkpoint(path, folder.name, seconds=0)

        def build(target) -> None:
            value = torch.ones(1, dtype=torch.float64)
            loop = StepLoop(
                self.steps, state=lambda: value, restore=value.copy_, checkpoint=checkpoint
            )
            for step in loop:
                if step == self.kill_at:
                    raise KilledError
                value *= 2
                self.steps_done += 1
            save_tensors(target / "value.safetensors", {"value": value}, {})

        build_once(folder, build)
        checkpoint.clear()
        self.value = float(load_tensors(folder / "value.safetensors")[0]["value"])

    @property
    def fingerprint(self) -> str:
        return str(self.value)


def test_one_that_was_killed_goes_on(coloured_noise, tmp_path):
    data = coloured_noise()
    killed, again = Trained(), Trained()
    killed.kill_at = 3
    with pytest.raises(KilledError):
        prepare_all({"trained": killed}, data, tmp_path, {})
    prepare_all({"trained": again}, data, tmp_path, {})
    assert again.value == 2.0**5
    assert again.steps_done == 2
    assert list(tmp_path.rglob("*.checkpoint")) == []
