"""A transfer evaluation: its three starts, what they share, what decides their numbers, and kills."""

import json

import pytest
import torch
from killing import KilledError

from benchmarks.results.transfers import TRANSFERS, UNTRAINED
from benchmarks.statistics.transfers import transfer_listings, transfer_table
from benchmarks.students.student import Student
from benchmarks.transfer import training
from benchmarks.transfer.protocol import TransferProtocol
from benchmarks.transfer.running import CONTROL, TransferRun, needs_transfer, starts_of
from ddoq.decoding.form import SetForm
from ddoq.decoding.transform import Transform
from ddoq.distillation.distilled_set import DistilledSet
from ddoq.errors import UserError
from ddoq.finite import DivergedError
from ddoq.labels.targets import Targets

SHORT = {"pretrain_epochs": 3, "pretrain_batch_size": 4, "pretrain_lr": 0.01, "iterations": 5}


@pytest.fixture
def data(coloured_noise):
    return coloured_noise(per_class=12)


@pytest.fixture
def other(coloured_noise):
    made = coloured_noise(classes=2, per_class=8)
    made.name = "others"
    return made


def a_set(data, seed: int = 0, width: int = 6) -> DistilledSet:
    """Make a set of real images with vectors that tell their colours."""
    transform = Transform.normalize(data.mean, data.std)
    images = transform.apply(data.train.images[:9].float() / 255)
    generator = torch.Generator().manual_seed(seed)
    vectors = images.mean(dim=(2, 3)) @ torch.randn(3, width, generator=generator)
    return DistilledSet(
        images,
        None,
        torch.ones(9),
        data.classes.names,
        {"method": "krr_st", "ipc": 3, "seed": seed, "settings": {"seed": seed}, "context": {}},
        Targets(vectors, "vectors"),
        form=SetForm(transform=transform),
    )


@pytest.fixture
def make_run(data, tmp_path):
    def make(output="out", control=True, targets=(), students=None, seeds=(0,), **protocol):
        starts = starts_of(a_set(data), a_set(data, 1) if control else None)
        return TransferRun(
            data,
            starts,
            TransferProtocol(targets=list(targets), **SHORT | protocol),
            students or [Student("convnet1-w4-bn")],
            list(seeds),
            tmp_path / output,
            torch.device("cpu"),
        )

    return make


def numbers(run: TransferRun) -> dict[str, tuple]:
    return {
        json.dumps([r.cell.target, r.cell.start, r.cell.seed]): (
            *(r.probe_top1, r.tuned_top1, r.pretrain_loss),
        )
        for r in run.records()
    }


def test_every_start_target_and_seed_has_a_file_of_its_own(make_run, other, tmp_path):
    run = make_run(targets=[other], seeds=(0, 1))
    assert run.run() == []
    records = run.records()
    assert len(records) == len(list((tmp_path / "out/transfer").glob("transfer-*.json"))) == 12
    cells = {(r.cell.target, r.cell.start, r.cell.images) for r in records}
    starts = {("krr_st", 9), (CONTROL, 9), (UNTRAINED, 0)}
    assert cells == {(t, *start) for t in ("coloured-noise", "others") for start in starts}
    assert all(0 <= r.probe_top1 <= 1 and 0 <= r.tuned_top1 <= 1 for r in records)
    assert all((r.pretrain_loss is None) == (r.cell.start == UNTRAINED) for r in records)
    # Two sets and two seeds are pre-trained once for both targets; nothing else is left.
    assert len(list((tmp_path / "out/transfer").glob("pretrained-*"))) == 4
    assert not list((tmp_path / "out/transfer").glob("*.checkpoint"))
    assert TRANSFERS.read_all(tmp_path) == (TRANSFERS.read_all(tmp_path / "out/transfer")[0], [])
    assert len(TRANSFERS.read_all(tmp_path)[0]) == 12


def test_what_is_stored_is_reused(make_run, monkeypatch, other):
    first = make_run()
    first.run()

    def never(*_):
        raise AssertionError("trained again")

    with monkeypatch.context() as patch:
        patch.setattr(training.Task, "fine_tune", never)
        make_run().run()
    with monkeypatch.context() as patch:
        patch.setattr("benchmarks.transfer.running.pretrain", never)
        further = make_run(targets=[other])  # of these only the fine-tuning is new
        further.run()
    assert len(further.records()) == 6
    again = make_run()
    again.run(force=True)
    assert numbers(again) == numbers(first)


def test_two_ranks_give_the_same_numbers(make_run):
    whole, shared = make_run("whole"), make_run("shared")
    whole.run()
    for rank in (1, 0):
        shared.run(rank, 2)
    assert numbers(shared) == numbers(whole)


@pytest.mark.parametrize("arch", ["convnet1-w4-bn", "resnet10t"])
def test_a_kill_changes_no_number(make_run, monkeypatch, arch):
    kwargs = {"stem_width": 8, "channels": [4, 4, 4, 6], "drop_rate": 0.3}
    student = Student(arch, kwargs=kwargs if arch == "resnet10t" else {}, name="it")
    whole = make_run("whole", control=False, students=[student])
    whole.run()
    monkeypatch.setattr(training.StepLoop, "__iter__", _killing(training.StepLoop.__iter__))
    for _ in range(20):
        run = make_run("killed", control=False, students=[student])
        try:
            run.run()
            break
        except KilledError:
            torch.manual_seed(1)
    else:
        raise AssertionError("it never ended")
    assert numbers(run) == numbers(whole)


def _killing(iterate):
    """Kill every training after two of its steps, with a checkpoint behind them."""

    def steps(self):
        self._checkpoint._seconds = 0
        for done, step in enumerate(iterate(self)):
            yield step
            if done == 2:
                raise KilledError

    return steps


def test_a_seed_starts_all_students_from_the_same_weights(make_run):
    run = make_run(pretrain_epochs=1, pretrain_lr=1e-12, iterations=1)
    run.run()
    probes = {r.cell.start: r.probe_top1 for r in run.records()}
    assert probes["krr_st"] == probes[CONTROL]
    weights = [run._network(Student("convnet1-w4-bn"), seed).state_dict() for seed in (0, 0, 1)]
    same = [all(torch.equal(weights[0][name], w[name]) for name in w) for w in weights]
    assert same == [True, True, False]


def test_settings_decide(make_run):
    names = set()
    for change in ({}, {"iterations": 6}, {"pretrain_epochs": 4}, {"hflip": False}, {"lr": 0.02}):
        run = make_run(**change)
        names |= {run.path(place) for place in run.places()}
    assert len(names) == 5 * 3


def test_pretraining_learns_the_vectors_and_tuning_the_classes(make_run):
    run = make_run(pretrain_epochs=40, pretrain_weight_decay=0.0, iterations=40, lr=0.05)
    run.run()
    records = {r.cell.start: r for r in run.records()}
    vectors = a_set(run.source).targets.values
    assert records["krr_st"].pretrain_loss < 0.2 * float(vectors.var(dim=0, correction=0).mean())
    assert all(r.tuned_top1 > 0.9 for r in records.values())


def test_a_divergence_costs_one_row(make_run, monkeypatch, capsys):
    whole = training.Task.fine_tune

    def fine_tune(self, network, *rest):
        fine_tune.calls += 1
        if fine_tune.calls == 2:
            raise DivergedError("fine-tuning diverged")
        return whole(self, network, *rest)

    fine_tune.calls = 0
    monkeypatch.setattr(training.Task, "fine_tune", fine_tune)
    run = make_run()
    (failure,) = run.run()
    assert CONTROL in failure
    assert "diverged" in failure
    assert len(run.records()) == 2


def test_a_rate_that_is_too_high_is_named(make_run):
    (first, *_) = make_run(pretrain_lr=1e30, control=False, iterations=1).run()
    assert "evaluation.transfer.pretrain_lr" in first


def test_only_sets_of_vectors_without_classes_are_meant(data):
    made = a_set(data)
    assert needs_transfer(made)
    with_classes = DistilledSet(
        made.images, data.train.labels[:9], torch.ones(9), made.class_names, {}, made.targets
    )
    assert not needs_transfer(with_classes)


def test_a_control_of_another_width_is_refused(data):
    with pytest.raises(UserError, match="another length"):
        starts_of(a_set(data), a_set(data, width=5))


def test_targets_that_cannot_be_tested_on_are_refused(data, other, coloured_noise):
    single = coloured_noise(classes=1)
    larger = coloured_noise(image_size=16)
    with pytest.raises(UserError, match=r"16 pixels.*set its image_size to 8"):
        TransferProtocol(targets=[larger]).datasets(data)
    with pytest.raises(UserError, match="has one class"):
        TransferProtocol(targets=[single]).datasets(data)
    with pytest.raises(UserError, match="called coloured-noise"):
        TransferProtocol(targets=[data]).datasets(data)
    with pytest.raises(UserError, match="no classes to test on"):
        TransferProtocol().datasets(single)
    assert TransferProtocol(targets=[other]).datasets(single) == [other]


@pytest.mark.parametrize(
    "change", [{"iterations": 0}, {"lr": 0.0}, {"pretrain_epochs": 0}, {"crop_pad": -1}]
)
def test_bad_numbers_are_refused(change):
    (name,) = change
    with pytest.raises(UserError, match=f"evaluation.transfer.{name}"):
        TransferProtocol(**change)


def test_damaged_and_renamed_files_are_left_out_and_made_again(make_run, tmp_path, capsys):
    run = make_run(control=False)
    run.run()
    first, second = (run.path(place) for place in run.places())
    before = numbers(run)
    first.write_text(first.read_text().replace('"probe_top1"', '"probe_top2"'))
    second.rename(second.with_name("transfer-0123456789abcdef.json"))
    records, problems = TRANSFERS.read_all(tmp_path)
    assert records == []
    assert len(problems) == 2
    run.run()
    assert numbers(run) == before


def test_tables_average_seeds_alone(make_run, other):
    run = make_run(targets=[other], seeds=(0, 1), iterations=1, pretrain_epochs=1)
    run.run()
    first, second = transfer_listings(run.records())
    assert "to coloured-noise" in first.title
    assert "to others" in second.title
    assert {row[0] for row in first.rows} == {"krr_st", CONTROL, UNTRAINED}
    assert all("(n=2)" in cell for row in first.rows for cell in row[2:])
    assert first.headers[2:] == ["convnet1-w4-bn, probe", "convnet1-w4-bn, fine-tuned"]
    lines = transfer_table(run.records()).splitlines()
    assert len([line for line in lines if line.startswith("convnet1-w4-bn")]) == 2
    further = make_run(iterations=2, pretrain_epochs=1, control=False)
    further.run()
    titles = [listing.title for listing in transfer_listings(run.records() + further.records())]
    assert len(titles) == 3
    assert sum("iterations=" in title for title in titles) == 2
