import json
import time

import lightning as L
import pytest
import torch
from killing import Fork

from ddoq.distillation.distilled_set import DistilledSet
from ddoq.distillation.distiller import Distiller
from ddoq.distillation.shard import Shard, WorkItem, check_budget, class_items
from ddoq.errors import UserError
from ddoq.seeding import generator_for
from ddoq.storage.fingerprints import hash_config


class NoiseDistiller(Distiller):
    """Draws noise for each class and counts its work."""

    method = "noise"

    def __init__(self, ipc: int, seed: int = 0, gain: float = 1.0) -> None:
        super().__init__(ipc, seed)
        self.gain = gain
        self.done: list[str] = []

    def work_items(self, data) -> list[WorkItem]:
        return class_items(data.num_classes)

    def distill(self, item: WorkItem) -> Shard:
        self.done.append(item.name)
        generator = generator_for(self.seed, "noise", *item.classes)
        images = torch.rand(self.ipc, 3, 8, 8, generator=generator)
        return Shard(
            (images * 255).to(torch.uint8),
            torch.full((self.ipc,), item.classes[0]),
            {"level": images.mean((1, 2, 3))},
            {"mean": float(images.mean())},
        )

    def weigh(self, shard: Shard):
        level = shard.extras["level"] ** self.gain
        return level / level.mean()

    def shard_settings(self):
        return {k: v for k, v in super().shard_settings().items() if k != "gain"}

    def summarize(self, infos):
        return {"mean": sum(info["mean"] for info in infos) / len(infos)}


class BlockDistiller(NoiseDistiller):
    """Makes one image of every class an item, as SRe2L does."""

    method = "blocks"

    def work_items(self, data) -> list[WorkItem]:
        labels = tuple(range(data.num_classes))
        return [WorkItem(i, f"block-{i:04d}", labels, block=i) for i in range(self.ipc)]

    def distill(self, item: WorkItem) -> Shard:
        images = torch.full((len(item.classes), 3, 8, 8), item.block, dtype=torch.uint8)
        return Shard(images, torch.tensor(item.classes))

    def weigh(self, shard: Shard):
        return torch.ones(len(shard.labels))

    def summarize(self, infos):
        return {}


def run(distiller, data, trainer, root):
    distiller.attach(data)
    return distiller.run(trainer, root)


def shard_files(root):
    return sorted((root / "shards").rglob("*.safetensors"))


def test_every_item_is_done_and_merged(coloured_noise, trainer, tmp_path):
    distilled, folder = run(NoiseDistiller(2), coloured_noise(), trainer, tmp_path)
    assert distilled.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert distilled.class_names == ["colour 0", "colour 1", "colour 2"]
    assert folder.name.startswith("noise-ipc2-")
    assert distilled.metadata["settings"] == {"ipc": 2, "seed": 0, "gain": 1.0}
    assert distilled.metadata["data"]["name"] == "coloured-noise"
    assert distilled.metadata["cost"]["work_items"] == 3
    assert 0.4 < distilled.metadata["statistics"]["mean"] < 0.6
    assert DistilledSet.load(folder).fingerprint == distilled.fingerprint


def test_blocks_are_sorted_by_class_and_keep_their_order(coloured_noise, trainer, tmp_path):
    distilled, _ = run(BlockDistiller(3), coloured_noise(), trainer, tmp_path)
    assert distilled.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert distilled.images[:, 0, 0, 0].tolist() == [0, 1, 2] * 3


def test_a_second_run_does_nothing_and_gives_the_same(coloured_noise, trainer, tmp_path):
    first, _ = run(NoiseDistiller(2), coloured_noise(), trainer, tmp_path)
    again = NoiseDistiller(2)
    second, _ = run(again, coloured_noise(), trainer, tmp_path)
    assert again.done == []
    assert second.fingerprint == first.fingerprint


def test_only_missing_shards_are_made(coloured_noise, trainer, tmp_path):
    first, folder = run(NoiseDistiller(2), coloured_noise(), trainer, tmp_path)
    for file in folder.iterdir():
        file.unlink()
    shard_files(tmp_path)[1].unlink()
    again = NoiseDistiller(2)
    second, _ = run(again, coloured_noise(), trainer, tmp_path)
    assert again.done == ["class-0001"]
    assert second.fingerprint == first.fingerprint


def test_a_failure_keeps_the_shards_before_it(coloured_noise, trainer, tmp_path):
    class Failing(NoiseDistiller):
        def distill(self, item):
            if item.index == 2:
                raise RuntimeError("out of luck")
            return super().distill(item)

    with pytest.raises(RuntimeError, match="out of luck"):
        run(Failing(2), coloured_noise(), trainer, tmp_path)
    assert [file.stem for file in shard_files(tmp_path)] == ["class-0000", "class-0001"]
    again = NoiseDistiller(2)
    resumed, _ = run(again, coloured_noise(), trainer, tmp_path)
    assert again.done == ["class-0002"]
    whole, _ = run(NoiseDistiller(2), coloured_noise(), trainer, tmp_path / "elsewhere")
    assert resumed.fingerprint == whole.fingerprint


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_corrupt_shard_is_set_aside_and_made_again(
    coloured_noise, trainer, tmp_path, capsys, damage
):
    first, folder = run(NoiseDistiller(2), coloured_noise(), trainer, tmp_path)
    for file in folder.iterdir():
        file.unlink()
    shard = shard_files(tmp_path)[0]
    damaged = damage_file(shard, damage)
    again = NoiseDistiller(2)
    second, _ = run(again, coloured_noise(), trainer, tmp_path)
    assert again.done == ["class-0000"]
    assert second.fingerprint == first.fingerprint
    assert shard.with_name(f"{shard.name}.damaged-1").read_bytes() == damaged
    assert f"{shard} is corrupt" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "missing"])
@pytest.mark.parametrize("name", ["distilled.safetensors", "metadata.json"])
def test_a_damaged_set_is_set_aside_and_merged_again(
    coloured_noise, trainer, tmp_path, capsys, name, damage
):
    first, folder = run(NoiseDistiller(2), coloured_noise(), trainer, tmp_path)
    tensors = (folder / "distilled.safetensors").read_bytes()
    damaged = damage_file(folder / name, damage)
    again = NoiseDistiller(2)
    second, place = run(again, coloured_noise(), trainer, tmp_path)
    assert (again.done, place) == ([], folder)
    assert (
        folder / "distilled.safetensors"
    ).read_bytes() == tensors  # the same set, the same bytes
    assert second.metadata == first.metadata
    aside = folder.with_name(f"{folder.name}.damaged-1")
    if (name, damage) == ("distilled.safetensors", "missing"):  # as after a kill between both
        assert not aside.exists()
    else:
        assert str(folder / name) in capsys.readouterr().err
        assert damaged is None or (aside / name).read_bytes() == damaged
    assert run(NoiseDistiller(2), coloured_noise(), trainer, tmp_path)[0].metadata == first.metadata


def test_of_two_runs_at_once_one_distils_and_the_other_waits(coloured_noise, trainer, tmp_path):
    started, go = tmp_path / "started", tmp_path / "go"

    class Waiting(NoiseDistiller):
        def distill(self, item: WorkItem) -> Shard:
            started.touch()
            while not go.exists():
                time.sleep(0.02)
            return super().distill(item)

    def work() -> int:
        distiller = Waiting(2)
        run(distiller, coloured_noise(), trainer, tmp_path / "runs")
        return len(distiller.done)

    first = Fork(tmp_path / "first", work)
    first.wait_for(started.exists)
    second = Fork(tmp_path / "second", work)
    second.wait_for(lambda: "another process makes it" in second.output.read_text())
    go.touch()
    assert [first.status(), second.status()] == [3, 0]


def damage_file(path, damage):
    """Damage a file and return what it holds then, None if nothing is left of it."""
    if damage == "missing":
        path.unlink()
        return None
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes({"flip": content, "cut": content[:-7], "empty": b""}[damage])
    return path.read_bytes()


@pytest.mark.parametrize("change", [{"seed": 1}, {"ipc": 3}])
def test_other_settings_never_reuse_shards(coloured_noise, trainer, tmp_path, change):
    run(NoiseDistiller(2), coloured_noise(), trainer, tmp_path)
    other = NoiseDistiller(**{"ipc": 2, **change})
    run(other, coloured_noise(), trainer, tmp_path)
    assert len(other.done) == 3


def test_other_data_never_reuse_shards(coloured_noise, trainer, tmp_path):
    run(NoiseDistiller(2), coloured_noise(), trainer, tmp_path)
    other = NoiseDistiller(2)
    run(other, coloured_noise(limit_per_class=5), trainer, tmp_path)
    assert len(other.done) == 3


def test_settings_that_only_weigh_share_shards_but_not_sets(coloured_noise, trainer, tmp_path):
    first, first_folder = run(NoiseDistiller(2), coloured_noise(), trainer, tmp_path)
    other = NoiseDistiller(2, gain=0.0)
    second, second_folder = run(other, coloured_noise(), trainer, tmp_path)
    assert other.done == []
    assert first_folder != second_folder
    assert torch.equal(first.images, second.images)
    assert torch.equal(second.weights, torch.ones(6))
    assert not torch.equal(first.weights, second.weights)


def test_formats_enter_the_keys_only_where_there_are_any(coloured_noise, trainer, tmp_path):
    class Rounded(NoiseDistiller):
        def formats(self):
            return {"latents": "float16"}

    plain, rounded = NoiseDistiller(2), Rounded(2)
    first, first_folder = run(plain, coloured_noise(), trainer, tmp_path)
    second, second_folder = run(rounded, coloured_noise(), trainer, tmp_path)
    assert len(rounded.done) == 3
    assert first_folder != second_folder
    assert first.metadata["context"] == second.metadata["context"]
    key = hash_config({"settings": plain.shard_settings(), **first.metadata["context"]})
    assert (tmp_path / "shards" / key).is_dir()  # old shards of the others stay in use


def test_work_happens_with_gradients_allowed(coloured_noise, trainer, tmp_path):
    class Gradient(NoiseDistiller):
        def distill(self, item):
            with torch.enable_grad():
                x = torch.ones(2, requires_grad=True)
                (x**2).sum().backward()
                assert x.grad is not None
            return super().distill(item)

    run(Gradient(1), coloured_noise(), trainer, tmp_path)


def test_the_record_tells_how_it_was_made(coloured_noise, trainer, tmp_path):
    _, folder = run(NoiseDistiller(2), coloured_noise(), trainer, tmp_path)
    record = json.loads((folder / "metadata.json").read_text())
    assert record["context"]["data"] == coloured_noise().normalized_fingerprint
    assert record["class_keys"] == ["colour 0", "colour 1", "colour 2"]
    assert record["provenance"]
    assert record["cost"]["seconds"] > 0


def test_needs_are_checked(coloured_noise):
    class Needy(NoiseDistiller):
        @property
        def needs_prior(self):
            return True

    with pytest.raises(UserError, match="needs a prior"):
        Needy(1).attach(coloured_noise())
    with pytest.raises(UserError, match="ipc must be at least 1"):
        NoiseDistiller(0).attach(coloured_noise())


def test_names_of_class_items_sort_like_their_labels():
    names = [item.name for item in class_items(12)]
    assert names == sorted(names)


def test_the_smallest_class_limits_the_budget(coloured_noise):
    data = coloured_noise(classes=2, per_class=6)
    data.train.labels[data.train.of_class(1)[0]] = 0  # 7 and 5
    check_budget(data, 5)
    with pytest.raises(UserError, match="class 'colour 1' of coloured-noise has only 5"):
        check_budget(data, 6)


def test_a_dataset_that_is_not_open_is_refused(coloured_noise):
    kind = type(coloured_noise())
    with pytest.raises(UserError, match=r"coloured-noise is not open yet: call setup\(\)"):
        NoiseDistiller(1).attach(kind())


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
def test_a_trainer_that_would_change_what_methods_compute_in_is_refused(
    coloured_noise, tmp_path, precision
):
    distiller = NoiseDistiller(1)
    distiller.attach(coloured_noise())
    trainer = L.Trainer(accelerator="cpu", precision=precision, logger=False)
    with pytest.raises(UserError, match=rf"precision 32-true, not {precision}"):
        distiller.run(trainer, tmp_path)


def test_shards_alone_are_made_once_and_found_by_a_run(coloured_noise, trainer, tmp_path):
    data, first = coloured_noise(), NoiseDistiller(2)
    first.attach(data)
    shards = first.make_shards(trainer, tmp_path)
    assert [shard.labels.tolist() for shard in shards] == [[0, 0], [1, 1], [2, 2]]
    assert not (tmp_path / "distilled").exists()
    second = NoiseDistiller(2)
    second.attach(data)
    made, _ = second.run(trainer, tmp_path)
    assert (len(first.done), second.done) == (3, [])
    assert torch.equal(made.images, torch.cat([shard.images for shard in shards]))
    next((tmp_path / "shards").rglob("class-0001.safetensors")).unlink()
    again = NoiseDistiller(2)
    again.attach(data)
    assert torch.equal(again.make_shards(trainer, tmp_path)[1].images, shards[1].images)
    assert again.done == ["class-0001"]  # though its set is there
