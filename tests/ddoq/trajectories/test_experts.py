import threading

import pytest
import torch
from killing import KilledError

from ddoq.costs.workload import Sizes
from ddoq.decoding.transform import fit_zca
from ddoq.distillation.ingredient import prepare_all
from ddoq.distillation.tables import at_budget
from ddoq.errors import UserError
from ddoq.objectives.functional import flatten_weights, weights_of
from ddoq.storage.files import load_tensors
from ddoq.trajectories import ExpertTrajectories, experts, files

SETTINGS = {"arch": "convnet1-w4", "count": 3, "epochs": 2, "batch_size": 16, "lr": 0.05}
CPU = {"accelerator": "cpu", "devices": 1}


@pytest.fixture
def recorded(coloured_noise, tmp_path):
    """Record some, each in the same output."""

    def make(root=tmp_path, **changes) -> ExpertTrajectories:
        made = ExpertTrajectories(**SETTINGS | changes)
        data = coloured_noise()
        made.check(data)
        prepare_all({"experts": made}, data, root, CPU)
        return made

    return make


@pytest.fixture
def trainings(monkeypatch) -> list[int]:
    """List the numbers of the experts that are trained."""
    seen = []
    whole = experts.record_expert

    def record(network, images, training, number, after_epoch):
        seen.append(number)
        return whole(network, images, training, number, after_epoch)

    monkeypatch.setattr(experts, "record_expert", record)
    return seen


def folders(root):
    return sorted(path for path in (root / "ingredients").iterdir() if path.is_dir())


def weights(made: ExpertTrajectories) -> list[torch.Tensor]:
    like = weights_of(made.network(3, 8))
    found = []
    for number in range(made.count):
        segment = made.segment(number, 0, made.epochs, like, torch.device("cpu"))
        found += [flatten_weights(segment.start), flatten_weights(segment.target)]
    return found


def same(one: ExpertTrajectories, other: ExpertTrajectories) -> bool:
    pairs = zip(weights(one), weights(other), strict=True)
    return one.fingerprint == other.fingerprint and all(torch.equal(a, b) for a, b in pairs)


def test_experts_are_recorded_once_a_file_each(recorded, trainings, tmp_path, capsys):
    first = recorded()
    assert "recorded, in" in capsys.readouterr().out
    again = recorded()
    assert "reused, in" in capsys.readouterr().out
    assert trainings == [0, 1, 2]
    assert same(first, again)
    (folder,) = folders(tmp_path)  # nothing is left of the parts
    assert len(list(folder.glob("expert-*.safetensors"))) == 3
    assert first.facts() == again.facts()
    assert first.facts()["bytes"] > 3 * 3 * 4 * len(weights(first)[0])
    assert first.facts()["seconds"] > 0


def test_segments_are_the_checkpoints_of_their_epochs(recorded):
    made = recorded(epochs=3)
    network = made.network(3, 8, 1)
    like = weights_of(network)
    stored, _ = load_tensors(made._path("expert-0001.safetensors"))
    assert stored["weights"].shape == (4, len(flatten_weights(like)))
    segment = made.segment(1, 1, 2, like, torch.device("cpu"))
    assert torch.equal(flatten_weights(segment.start), stored["weights"][1])
    assert torch.equal(flatten_weights(segment.target), stored["weights"][3])
    assert torch.equal(stored["weights"][0], flatten_weights(like))  # as it was drawn
    assert list(segment.start) == list(like)
    assert not torch.equal(flatten_weights(weights_of(made.network(3, 8, 2))), stored["weights"][0])


def test_a_killed_recording_goes_on_with_the_expert_that_is_not_whole(
    recorded, trainings, tmp_path, monkeypatch
):
    whole = recorded(root=tmp_path / "whole")
    counted = experts.record_expert
    del trainings[:]

    def killed(network, images, training, number, after_epoch):
        if number == 2:
            raise KilledError
        return counted(network, images, training, number, after_epoch)

    with monkeypatch.context() as patch:
        patch.setattr(experts, "record_expert", killed)
        with pytest.raises(KilledError):
            recorded(root=tmp_path / "killed")
    resumed = recorded(root=tmp_path / "killed")
    assert trainings == [0, 1, 2]
    assert same(whole, resumed)


def test_a_kill_while_they_are_put_together_loses_none(recorded, trainings, tmp_path, monkeypatch):
    def killed(*_):
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(experts, "write_sealed", killed)
        with pytest.raises(KilledError):
            recorded()
    recorded()
    assert trainings == [0, 1, 2]


def test_a_damaged_part_is_recorded_again(recorded, trainings, tmp_path, monkeypatch, capsys):
    whole = recorded(root=tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(experts, "share_file", lambda *_: (_ for _ in ()).throw(KilledError))
        with pytest.raises(KilledError):
            recorded()
    del trainings[:]
    (part,) = (tmp_path / "ingredients").glob(".*.parts/expert-0001.safetensors")
    part.write_bytes(part.read_bytes()[:-1])
    assert same(recorded(), whole)
    assert trainings == [1]
    assert "expert-0001" in capsys.readouterr().err


def test_a_damaged_file_is_set_aside_and_all_are_recorded_again(
    recorded, trainings, tmp_path, capsys
):
    recorded()
    (folder,) = folders(tmp_path)
    file = folder / "expert-0002.safetensors"
    file.write_bytes(b"x" + file.read_bytes()[1:])
    recorded()
    assert trainings == [0, 1, 2] * 2
    assert "damaged" in capsys.readouterr().err


def test_processes_share_the_recording(recorded, trainings, tmp_path, monkeypatch):
    """Two that begin at once, as ranks do, record each expert once."""
    counted, meet = experts.record_expert, threading.Barrier(2)

    def record(network, images, training, number, after_epoch):
        if number < 2:
            meet.wait(timeout=60)  # both are at work
        return counted(network, images, training, number, after_epoch)

    monkeypatch.setattr(experts, "record_expert", record)
    made: list[ExpertTrajectories] = []
    threads = [threading.Thread(target=lambda: made.append(recorded())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert sorted(trainings) == [0, 1, 2]
    assert same(*made)


@pytest.fixture
def groups(monkeypatch) -> list[list[int]]:
    """List the numbers of the experts that are trained side by side."""
    seen = []
    whole = experts.record_stacked

    def record(network, starts, images, training, numbers, after_epoch):
        seen.append(list(numbers))
        return whole(network, starts, images, training, numbers, after_epoch)

    monkeypatch.setattr(experts, "record_stacked", record)
    return seen


def test_several_at_once_are_those_of_one_after_another(recorded, groups, trainings):
    together, alone = recorded(at_once=2), recorded()
    assert (groups, trainings) == ([[0, 1], [2]], [0, 1, 2])
    for one, other in zip(weights(together), weights(alone), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert together.facts()["loss"] == pytest.approx(alone.facts()["loss"], rel=1e-4)


def test_a_killed_group_is_trained_again_as_a_whole(recorded, groups, tmp_path, monkeypatch):
    whole = recorded(root=tmp_path / "whole", at_once=3)
    saved = files.save_tensors

    def killed(path, *rest):
        if path.name == "expert-0002.safetensors":
            raise KilledError
        saved(path, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(files, "save_tensors", killed)
        with pytest.raises(KilledError):
            recorded(root=tmp_path / "killed", at_once=3)
    parts = (tmp_path / "killed" / "ingredients").glob(".*.parts/expert-*.safetensors")
    assert [path.name for path in parts] == ["expert-0001.safetensors"]
    assert same(whole, recorded(root=tmp_path / "killed", at_once=3))
    assert groups == [[0, 1, 2]] * 3


def test_processes_share_groups(recorded, groups, monkeypatch):
    counted, meet = experts.record_stacked, threading.Barrier(2)

    def record(network, starts, images, training, numbers, after_epoch):
        meet.wait(timeout=60)  # both are at work
        return counted(network, starts, images, training, numbers, after_epoch)

    monkeypatch.setattr(experts, "record_stacked", record)
    made: list[ExpertTrajectories] = []
    threads = [
        threading.Thread(target=lambda: made.append(recorded(at_once=2, count=4))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert sorted(groups) == [[0, 1], [2, 3]]
    assert same(*made)


def test_other_settings_are_other_experts(recorded, tmp_path):
    changes = [
        {},
        {"arch": "convnet1-w2"},
        {"count": 2},
        {"epochs": 2},
        {"lr": 0.1},
        {"batch_size": 8},
        {"augmentation": "none"},
        {"zca": True},
        {"rho": 0.1},
        {"rho": 0.1, "alpha": 0.1},  # alone, alpha has nothing to take away
        {"seed": 1},
        {"at_once": 2},
    ]
    assert {name for change in changes for name in change} == set(ExpertTrajectories().arguments)
    made = [recorded(**{"count": 1, "epochs": 1, **change}) for change in changes]
    assert len({one.fingerprint for one in made}) == len(folders(tmp_path)) == len(changes)


def test_whitening_is_that_of_the_training_images(recorded, coloured_noise):
    data = coloured_noise()
    fitted = fit_zca(data.train.load(range(len(data.train))))
    whitened, plain = recorded(zca=True).transform(), recorded().transform()
    assert torch.equal(whitened.zca, fitted.zca)
    assert plain.zca is None
    torch.testing.assert_close(plain.mean.flatten(), torch.tensor(data.mean))


def test_tables_follow_the_budget():
    given = ExpertTrajectories(zca={10: {1: True, 50: False}}, alpha={1: 0.3, 50: 1.0})
    small, large = (at_budget(given, 10, ipc) for ipc in (10, 50))
    assert (small.zca, small.alpha) == (True, 0.3)
    assert (large.zca, large.alpha) == (False, 1.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": 0}, "experts.count must be at least 1"),
        ({"epochs": 0}, "experts.epochs must be at least 1"),
        ({"batch_size": 0}, "experts.batch_size must be at least 1"),
        ({"lr": 0.0}, "experts.lr must be above 0"),
        ({"at_once": 0}, "experts.at_once must be at least 1"),
        ({"rho": -0.1}, "experts.rho must be at least 0"),
        ({"alpha": -1.0}, "experts.alpha must be at least 0"),
        ({"augmentation": "color_flop"}, "Did you mean 'flip'"),
        ({"arch": "convnet4"}, "convnet4 halves the map"),
    ],
)
def test_wrong_settings_are_refused(coloured_noise, changes, message):
    with pytest.raises(UserError, match=message):
        ExpertTrajectories(**SETTINGS | changes).check(coloured_noise())


def test_whitening_of_large_images_says_what_it_would_take(coloured_noise):
    large = coloured_noise(image_size=128, per_class=1)
    with pytest.raises(
        UserError, match=r"49,152 x 49,152 numbers: 9\.0 GiB .* about 90 GiB .* at most 73 pixels"
    ):
        ExpertTrajectories(**SETTINGS, zca=True).check(large)
    ExpertTrajectories(**SETTINGS).check(large)


def test_what_is_not_prepared_says_so():
    with pytest.raises(RuntimeError, match="call prepare"):
        _ = ExpertTrajectories().fingerprint


def test_plan_counts_passes_and_files():
    sizes = Sizes(10, 5000, 1000, 32, 500)
    (plain,) = ExpertTrajectories(count=4, epochs=3, arch="convnet1-w4").workload(sizes)
    (flat,) = ExpertTrajectories(count=4, epochs=3, arch="convnet1-w4", rho=0.01).workload(sizes)
    assert plain.passes == 4 * 3 * 5000
    assert flat.passes == 2 * plain.passes
    parameters = len(
        flatten_weights(weights_of(ExpertTrajectories(arch="convnet1-w4").network(10, 32)))
    )
    assert plain.files["experts"] == 4 * 4 * 4 * parameters
    (stacked,) = ExpertTrajectories(count=4, epochs=3, arch="convnet1-w4", at_once=8).workload(
        sizes
    )
    assert (stacked.passes, stacked.batch) == (plain.passes, 4 * plain.batch)


def test_rows_of_a_lost_file_are_a_clear_error(tmp_path):
    with pytest.raises(UserError, match="recorded anew"):
        files.read_rows(tmp_path / "expert-0000.safetensors", [0])


@pytest.mark.parametrize("whole", [True, False])
def test_parts_that_another_process_removes_while_we_wait(
    recorded, tmp_path, monkeypatch, coloured_noise, whole
):
    made = recorded()
    (folder,) = folders(tmp_path)
    target = folder if whole else tmp_path / "elsewhere"
    parts = tmp_path / "parts"
    recording = experts.Recording(made, coloured_noise(), parts, CPU)

    def wait_for_what_is_removed(path, make, *, wait):
        raise FileNotFoundError(path)

    monkeypatch.setattr(experts, "make_once", wait_for_what_is_removed)
    if whole:
        recording.share_work(target)
        assert folders(tmp_path) == [folder]
    else:
        with pytest.raises(FileNotFoundError):
            recording.share_work(target)
