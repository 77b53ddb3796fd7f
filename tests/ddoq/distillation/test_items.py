import lightning as L
import pytest
import torch
from toy_methods import Descent, KilledError

from ddoq import console
from ddoq.distillation.distiller import Distiller
from ddoq.distillation.run import Unsaved
from ddoq.distillation.shard import Shard, class_items
from ddoq.errors import UserError
from ddoq.storage.files import load_tensors, save_tensors


def make(data, kill_at=None, **arguments):
    method = Descent(2, **arguments)
    method.checkpoint_seconds = 0  # saves after every step
    method.kill_at = kill_at or {}
    method.attach(data)
    return method


def names(root):
    """List the files of shards, but not the lock that runs on the same ones wait for."""
    files = (path.name for path in (root / "shards").rglob("*") if path.is_file())
    return sorted(name for name in files if not name.endswith(".lock"))


@pytest.fixture
def data(coloured_noise):
    return coloured_noise()


@pytest.fixture
def killed(data, trainer, tmp_path):
    """An output in which the second of three items was killed at its fourth step."""
    with pytest.raises(KilledError, match="class-0001 at step 3"):
        make(data, {"class-0001": 3}).run(trainer, tmp_path)
    assert names(tmp_path) == ["class-0000.safetensors", "class-0001.checkpoint"]
    return tmp_path


def test_a_killed_item_goes_on_and_ends_with_the_same_bits(killed, data, trainer, tmp_path):
    again = make(data)
    resumed, folder = again.run(trainer, killed)
    assert again.steps_done == {"class-0001": 3, "class-0002": 6}
    whole, _ = make(data).run(trainer, tmp_path / "whole")
    assert resumed.fingerprint == whole.fingerprint
    for number in range(3):
        shards = [
            Shard.load(next((root / "shards").rglob(f"class-{number:04d}.safetensors")))[0]
            for root in (killed, tmp_path / "whole")
        ]
        assert torch.equal(shards[0].extras["pixels"], shards[1].extras["pixels"])
    assert names(killed) == [f"class-{number:04d}.safetensors" for number in range(3)]
    assert folder.is_dir()


def test_seconds_before_the_kill_count(killed, data, trainer):
    path = next(killed.rglob("class-0001.checkpoint"))
    tensors, metadata = load_tensors(path)
    assert 0 < metadata["elapsed"] < 60
    save_tensors(path, tensors, {**metadata, "elapsed": 1000.0})
    resumed, _ = make(data).run(trainer, killed)
    _, record = Shard.load(next(killed.rglob("class-0001.safetensors")))
    assert 1000 < record["seconds"] < 1060
    assert 1000 < resumed.metadata["cost"]["seconds"] < 1060


def test_a_checkpoint_of_other_settings_is_refused(killed, data, trainer, tmp_path):
    with pytest.raises(KilledError):
        make(data, {"class-0001": 3}, steps=7).run(trainer, tmp_path / "other")
    other = next((tmp_path / "other").rglob("class-0001.checkpoint"))
    path = next((killed / "shards").rglob("class-0001.checkpoint"))
    path.write_bytes(other.read_bytes())
    with pytest.raises(
        UserError, match=r"class-0001\.checkpoint is a checkpoint of other sett.*del"
    ):
        make(data).run(trainer, killed)


def test_a_corrupt_checkpoint_is_set_aside_and_the_item_begins_anew(killed, data, trainer, capsys):
    path = next(killed.rglob("class-0001.checkpoint"))
    path.write_bytes(path.read_bytes()[:-9])
    again = make(data)
    again.run(trainer, killed)
    assert again.steps_done["class-0001"] == 6
    assert path.with_name(f"{path.name}.damaged-1").is_file()
    assert f"{path} is corrupt" in capsys.readouterr().err


def test_what_a_kill_left_beside_a_whole_shard_is_removed(data, trainer, tmp_path):
    make(data).run(trainer, tmp_path)
    shards = next(path for path in (tmp_path / "shards").iterdir() if path.is_dir())
    left = [shards / f"class-0001{name}.checkpoint" for name in ("", ".000000003", ".stage-1")]
    other = shards / "class-00012.checkpoint"  # of another item, whose name begins alike
    for path in (*left, other):
        path.write_text("")
    for path in (tmp_path / "distilled").rglob("*.*"):
        path.unlink()
    make(data).run(trainer, tmp_path)
    assert not any(path.exists() for path in left)
    assert other.exists()


def test_intervals_are_no_part_of_keys(data, trainer, tmp_path):
    rare = make(data)
    rare.checkpoint_seconds = 3600.0
    assert rare.run(trainer, tmp_path)[1] == make(data).run(trainer, tmp_path)[1]


@pytest.mark.parametrize("inference_mode", [False, True])
def test_gradients_are_on_only_where_they_are_needed(data, make_trainer, tmp_path, inference_mode):
    states = {}

    class Watching(Descent):
        def distill(self, item):
            states[self.needs_gradient] = torch.is_grad_enabled()
            return self.shard(item, self.start(item)[0])

    class Without(Watching):
        needs_gradient = False

    trainer = make_trainer(inference_mode)
    for kind in (Watching, Without):
        method = kind(1)
        method.attach(data)
        method.run(trainer, tmp_path / kind.__name__)
    assert states == {True: True, False: False}


def test_outside_of_a_run_nothing_is_kept(data):
    method = make(data)
    item = method.work_items(data)[0]
    checkpoint = method.checkpoint(item)
    assert isinstance(checkpoint, Unsaved)
    assert not checkpoint.due()
    checkpoint.save({}, {})
    assert checkpoint.load() is None
    checkpoint.clear()
    assert method.distill(item).images.shape == (2, 3, 8, 8)
    gathered = method.all_gather_items([torch.ones(2)])
    assert len(gathered) == 1
    assert method.joint_checkpoint().load_step() is None


def test_a_method_without_distill_says_so(data):
    class Empty(Distiller):
        method = "empty"

        def work_items(self, data):
            return class_items(data.num_classes)

    item = Empty(1).work_items(data)[0]
    with pytest.raises(NotImplementedError, match="Empty lacks distill, or distill_jointly"):
        Empty(1).distill(item)


@pytest.mark.parametrize("bar", [False, True])
def test_items_are_counted_by_lines_or_by_a_bar(data, tmp_path, capsys, monkeypatch, bar):
    monkeypatch.setattr("ddoq.console.PAUSE", 0.0)
    trainer = L.Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=bar,
    )
    make(data).run(trainer, tmp_path)
    lines = [line for line in capsys.readouterr().out.splitlines() if "work items" in line]
    assert [line.split(",")[0] for line in lines] == (
        [] if bar else ["descent: 1 of 3 work items", "descent: 2 of 3 work items"]
    )


def test_long_runs_say_how_many_items_are_done(data, trainer, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(console, "PAUSE", 0.0)
    make(data).run(trainer, tmp_path)
    lines = [line for line in capsys.readouterr().out.splitlines() if "work items" in line]
    assert [line.split(",")[0] for line in lines] == [
        "descent: 1 of 3 work items",
        "descent: 2 of 3 work items",
    ]


def test_items_are_done_in_float32_whatever_is_around(data, trainer, tmp_path):
    dtypes = []

    class Looking(Descent):
        def distill(self, item):
            ones = torch.ones(2, 2, dtype=torch.float32)
            dtypes.extend([(ones @ ones).dtype, torch.zeros(1).dtype])
            return super().distill(item)

    distiller = Looking(2)
    distiller.attach(data)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            distiller.run(trainer, tmp_path)
    finally:
        torch.set_default_dtype(torch.float32)
    assert set(dtypes) == {torch.float32}
