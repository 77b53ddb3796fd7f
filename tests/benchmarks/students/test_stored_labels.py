"""Stored labels: the same training as with an online teacher, made once, safe against kills, damage and company."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file

from benchmarks.students.evaluation import Run, evaluate_student
from benchmarks.students.module import StudentModule
from benchmarks.students.recipes import load_recipe
from benchmarks.students.stored_labels import StoredLabels
from benchmarks.students.student import Student
from benchmarks.students.training_set import TrainingSet
from ddoq.augmentation.epochs import augment, draw_epoch
from ddoq.distillation.distilled_set import DistilledSet
from ddoq.errors import UserError
from ddoq.labels.compact import compress, expand, label_bytes
from ddoq.networks import build_network
from ddoq.teachers import Teacher

CPU = {"accelerator": "cpu", "devices": 1, "enable_progress_bar": False}
EPOCHS, N = 6, 12


class CountingTeacher(Teacher):
    """A teacher that counts its calls, and fails when it is told to."""

    calls = 0
    fails_at: int | None = None

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.calls == self.fails_at:
            raise KeyboardInterrupt
        self.calls += 1
        return super().forward(images)


def make_teacher(seed: int = 0) -> CountingTeacher:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_network("convnet2-w8-bn", num_classes=3, image_size=8)
        for parameter in network.parameters():  # as sure of itself as a trained one
            parameter.data *= 3
    names = ["a", "b", "c"]
    return CountingTeacher(
        network, arch="c", class_names=names, class_keys=names, image_size=8, accuracy=0.5
    )


@pytest.fixture
def teacher() -> CountingTeacher:
    return make_teacher()


@pytest.fixture
def data(coloured_noise):
    return coloured_noise()


@pytest.fixture
def distilled(data) -> DistilledSet:
    chosen = torch.cat([data.train.of_class(label)[:4] for label in range(3)])
    images, labels = data.train.load(chosen.tolist()), data.train.labels[chosen]
    return DistilledSet(images, labels, torch.ones(N), data.classes.names)


def stored_recipe(**overrides: Any):
    fields = {"labels": "stored", "epochs": EPOCHS, "batch_size": 4, "temperature": 2.0}
    return load_recipe("unified", {**fields, **overrides})


def of(root: Path, distilled, teacher, recipe, **options: Any) -> StoredLabels:
    return StoredLabels(root, TrainingSet.of(distilled, recipe), teacher, **options)


def make(
    root: Path, distilled, teacher, *, file_bytes: int = 2**20, **overrides: Any
) -> StoredLabels:
    labels = of(root, distilled, teacher, stored_recipe(**overrides), file_bytes=file_bytes)
    labels.make("cpu")
    return labels


def files(labels: StoredLabels) -> list[Path]:
    return sorted(labels.folder.glob("*.safetensors"))


ONE_EPOCH = N * 3 * 2  # bytes


@pytest.mark.parametrize("top_k", [0, 1])
def test_a_label_is_what_the_teacher_says_of_the_augmented_image(
    tmp_path, distilled, teacher, top_k
):
    labels = make(tmp_path, distilled, teacher, label_seed=7, label_top_k=top_k)
    for epoch in (0, EPOCHS - 1):
        drawn = draw_epoch(
            N, (8, 8), seed=7, epoch=epoch, crop_scale=(0.5, 1.0), flip=True, cutmix_alpha=1.0
        )
        assert drawn.partners is not None
        truth = teacher(augment(distilled.images, torch.arange(N), drawn))
        expected = expand(compress(truth, top_k=top_k, temperature=2.0), 3)
        torch.testing.assert_close(expand(labels.epoch(epoch), 3), expected, rtol=1e-3, atol=1e-3)


def train(distilled, data, teacher, recipe, seed: int, stored: StoredLabels | None = None):
    torch.manual_seed(seed)
    module = StudentModule(
        Student("convnet2-w8").build(data),
        TrainingSet.of(distilled, recipe),
        num_classes=3,
        lr=0.01,
        seed=seed,
        teacher=None if stored else teacher,
        stored=stored,
        make_test_loader=data.test_dataloader,
    )
    quiet = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False}
    steady = {"use_distributed_sampler": False, "num_sanity_val_steps": 0}
    L.Trainer(**CPU, **quiet, **steady, max_epochs=recipe.epochs).fit(module)
    return module


def test_with_one_box_a_batch_students_see_the_batches_of_the_labels(
    tmp_path, distilled, data, teacher
):
    recipe = stored_recipe(cutmix_per="batch", label_seed=7)
    stored = of(tmp_path, distilled, teacher, recipe)
    stored.make("cpu")
    online = replace(recipe, labels="online", label_seed=0)
    for seed in (7, 8):  # of a student whose order is that of the labels, and of another
        module = train(distilled, data, teacher, recipe, seed, stored)
        reference = train(distilled, data, teacher, online, 7)
        loaders = module.train_dataloader(), reference.train_dataloader()
        for loader in loaders:
            loader.epoch = EPOCHS - 1  # the last, whose draws are at hand
        for ours, theirs in zip(*loaders, strict=True):
            assert torch.equal(ours, theirs)
            assert len(module._draws.epoch.boxes[ours].unique(dim=0)) == 1
    other = stored_recipe(cutmix_per="batch", label_seed=7, batch_size=6)
    assert of(tmp_path, distilled, teacher, other).key != stored.key


@pytest.mark.parametrize("batch_size", [4, 5, N])
def test_stored_and_online_labels_train_the_same_student(
    tmp_path, distilled, data, teacher, batch_size
):
    seed = 3
    stored = make(tmp_path, distilled, teacher, label_seed=seed)  # made under a batch size of 4
    recipe = stored_recipe(label_seed=seed, batch_size=batch_size)
    assert of(tmp_path, distilled, teacher, recipe).folder == stored.folder
    offline = train(distilled, data, teacher, recipe, seed, stored)
    online_recipe = load_recipe(
        "unified", {"epochs": EPOCHS, "batch_size": batch_size, "temperature": 2.0}
    )
    online = train(distilled, data, teacher, online_recipe, seed)
    other = train(distilled, data, teacher, online_recipe, seed + 1)

    losses = [[entry["train_loss"] for entry in m.curve] for m in (offline, online, other)]
    assert len(losses[0]) == EPOCHS
    assert losses[0] == pytest.approx(losses[1], rel=2e-3)
    assert losses[0] != pytest.approx(losses[2], rel=2e-2)
    images = data.test.load(range(len(data.test))).float() / 255
    with torch.no_grad():
        ends = [m.network.eval()(images) for m in (offline, online, other)]
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-2, atol=1e-2)
    assert (ends[1] - ends[2]).abs().max() > 0.2


def test_a_student_of_another_seed_sees_the_images_that_were_labelled(
    tmp_path, distilled, data, teacher
):
    stored = make(tmp_path, distilled, teacher, label_seed=7)
    module = train(distilled, data, None, stored_recipe(label_seed=7), 1, stored)
    positions = torch.tensor([4, 0, 11])
    images = augment(distilled.images, positions, module._draws.epoch)
    said = module.teacher_logits(images, positions)
    torch.testing.assert_close(said, teacher(images), rtol=1e-3, atol=1e-3)


def test_ranks_and_batches_read_the_same_labels(tmp_path, distilled, data, teacher):
    stored = make(tmp_path, distilled, teacher)
    module = train(distilled, data, None, stored_recipe(), 0, stored)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(1))
    whole = module.teacher_logits(torch.empty(0), order)
    for ranks in (2, 3):
        shares = [
            module.teacher_logits(torch.empty(0), order[rank::ranks]) for rank in range(ranks)
        ]
        assert all(torch.equal(share, whole[rank::ranks]) for rank, share in enumerate(shares))
    assert torch.equal(module.teacher_logits(torch.empty(0), order[3:5]), whole[3:5])


def test_labels_are_made_once_and_their_size_is_told_before(tmp_path, distilled, teacher, capsys):
    first = make(tmp_path, distilled, teacher)
    calls = teacher.calls
    assert calls == EPOCHS
    told = capsys.readouterr().out
    assert f"{EPOCHS * ONE_EPOCH} bytes for 6 of 6 epochs of 12 images, all of 3 classes" in told
    second = make(tmp_path, distilled, teacher)
    assert teacher.calls == calls
    assert "reused" in capsys.readouterr().out
    size = sum(file.stat().st_size for file in files(first))
    assert first.total_bytes == second.total_bytes == size > label_bytes(N * EPOCHS, 3)
    assert sorted(path.name for path in first.folder.iterdir()) == [
        "epochs-00000-00005.safetensors",
        "labels.json",
    ]


def test_progress_counts_epochs_and_what_is_there(
    tmp_path, distilled, teacher, capsys, monkeypatch
):
    monkeypatch.setattr("ddoq.console.PAUSE", 0.0)
    labels = make(tmp_path, distilled, teacher, file_bytes=2 * ONE_EPOCH + 1)

    def shown():
        lines = capsys.readouterr().out.splitlines()
        return [line.split(", ")[0] for line in lines if "to go" in line]

    assert shown() == [f"stored labels: {done} of 6 epochs" for done in range(1, 6)]
    files(labels)[1].unlink()
    make(tmp_path, distilled, teacher, file_bytes=2 * ONE_EPOCH + 1)
    assert shown() == ["stored labels: 5 of 6 epochs"]


def test_files_hold_whole_epochs_and_say_the_same_at_any_size(tmp_path, distilled, teacher):
    large = make(tmp_path / "large", distilled, teacher)
    small = make(tmp_path / "small", distilled, teacher, file_bytes=2 * ONE_EPOCH + 1)
    tiny = make(tmp_path / "tiny", distilled, teacher, file_bytes=1)
    assert [len(files(labels)) for labels in (large, small, tiny)] == [1, 3, EPOCHS]
    assert load_file(files(small)[0])["logits"].shape == (2, N, 3)
    for epoch in (3, 0, 5, 4):  # in any order
        parts = [labels.epoch(epoch)["logits"] for labels in (large, small, tiny)]
        assert parts[0].dtype == torch.float16
        assert torch.equal(parts[0], parts[1])
        assert torch.equal(parts[0], parts[2])


def test_a_killed_run_continues_where_it_was(tmp_path, distilled, teacher):
    whole = make(tmp_path / "whole", distilled, teacher, file_bytes=ONE_EPOCH)
    teacher.calls, teacher.fails_at = 0, 4
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "killed", distilled, teacher, file_bytes=ONE_EPOCH)
    folder = tmp_path / "killed" / whole.folder.name
    before = {file: file.stat().st_mtime_ns for file in folder.glob("*.safetensors")}
    assert len(before) == 4
    # As a process leaves it that is killed outright.
    left = folder / f".{files(whole)[4].name}.abc.tmp"
    left.write_bytes(b"half")
    teacher.calls, teacher.fails_at = 0, None
    resumed = make(tmp_path / "killed", distilled, teacher, file_bytes=ONE_EPOCH)
    assert teacher.calls == 2
    assert not left.exists()
    assert {file: file.stat().st_mtime_ns for file in before} == before
    for epoch in range(EPOCHS):
        assert torch.equal(resumed.epoch(epoch)["logits"], whole.epoch(epoch)["logits"])


def test_two_at_the_same_time_share_the_work(tmp_path, distilled):
    teachers = [make_teacher(), make_teacher()]
    together = threading.Barrier(2)

    def work(teacher: CountingTeacher) -> None:
        together.wait()
        make(tmp_path, distilled, teacher, file_bytes=ONE_EPOCH, epochs=40)

    threads = [threading.Thread(target=work, args=(teacher,)) for teacher in teachers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sum(teacher.calls for teacher in teachers) == 40
    (folder,) = tmp_path.iterdir()
    names = sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")
    assert len(names) == 41
    assert not [name for name in names if name.endswith(".tmp")]


def test_what_another_process_is_at_is_waited_for(tmp_path, distilled, teacher, capsys):
    whole = make(tmp_path / "whole", distilled, teacher, file_bytes=3 * ONE_EPOCH)
    labels = of(tmp_path, distilled, teacher, stored_recipe(), file_bytes=3 * ONE_EPOCH)
    labels.folder.mkdir(parents=True)
    first, last = files(whole)
    teacher.calls = 0
    with FileLock(labels.folder / f".{first.name}.lock"):
        thread = threading.Thread(target=labels.make, args=("cpu",))
        thread.start()
        thread.join(0.5)
        assert thread.is_alive()
        assert [file.name for file in files(labels)] == [
            last.name
        ]  # it did what it could meanwhile
        (labels.folder / first.name).write_bytes(first.read_bytes())  # the other one is done
    thread.join(10)
    assert not thread.is_alive()
    assert teacher.calls == 3
    assert "another process makes 1 of the files" in capsys.readouterr().out
    assert labels.total_bytes == whole.total_bytes


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"batch_size": 7}, True),
        ({"lr": 0.1, "optimizer": "sgd", "loss": "ce", "reduction": "weights"}, True),
        ({"temperature": 5.0}, True),
        ({"crop_scale": {1: [0.5, 1.0], 64: [0.1, 1.0]}}, True),
        ({"label_top_k": 1}, False),
        ({"label_seed": 1}, False),
        ({"epochs": EPOCHS + 1}, False),
        ({"crop_scale": [0.4, 1.0]}, False),
        ({"crop_ratio": [1.0, 1.0]}, False),
        ({"flip": False}, False),
        ({"cutmix_alpha": 0.5}, False),
        ({"color_jitter": 0.1}, False),
        ({"pca_lighting": 0.1}, False),
        ({"cutmix_alpha": 0.0, "mixup_alpha": 1.0}, False),
        ({"crop_scale": [1, 1], "pad_crop": 2}, False),
    ],
)
def test_a_folder_belongs_to_what_decides_its_labels(tmp_path, distilled, teacher, change, same):
    plain, other = (
        of(tmp_path, distilled, teacher, stored_recipe(**overrides)).folder
        for overrides in ({}, change)
    )
    assert (plain == other) is same


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ({}, "15f22c64204dde28"),
        ({"label_top_k": 1, "temperature": 5.0}, "146e8ce456fa35c1"),
        ({"color_jitter": 0.1}, "00f634f3f705b6a1"),
        ({"patch_shuffle": True}, "15f22c64204dde28"),  # of a set that is no collage
    ],
)
def test_folders_of_earlier_versions_keep_their_names(
    tmp_path, distilled, teacher, overrides, name
):
    training = TrainingSet.of(distilled, stored_recipe(**overrides))
    training = replace(training, fingerprint="8641fb62d84b85a3")
    teacher.fingerprint = "f3d22fed7cdd32b5"
    assert StoredLabels(tmp_path, training, teacher).folder.name == name


def test_siamese_augmentation_has_a_folder_of_its_own(tmp_path, distilled, teacher):
    bare = {"crop_scale": [1, 1], "flip": False, "cutmix_alpha": 0.0}
    names = {
        of(tmp_path, distilled, teacher, stored_recipe(**bare, **more)).folder
        for more in ({}, {"siamese": "color"}, {"siamese": "color_crop"})
    }
    assert len(names) == 3


def test_other_sets_teachers_and_temperatures_of_few_classes_have_folders_of_their_own(
    tmp_path, distilled, teacher
):
    few = {"label_top_k": 1, "temperature": 5.0}
    turned = replace(distilled, images=distilled.images.flip(0))
    collage = replace(distilled, metadata={"collage": 2})
    folders = [
        of(tmp_path, *parts, stored_recipe(**overrides)).folder
        for *parts, overrides in (
            (distilled, teacher, {}),
            (turned, teacher, {}),
            (distilled, make_teacher(1), {}),
            (distilled, teacher, few),
            (distilled, teacher, {**few, "temperature": 6.0}),
            (collage, teacher, {"patch_shuffle": True}),
        )
    ]
    assert len(set(folders)) == len(folders)
    unshuffled = of(tmp_path, collage, teacher, stored_recipe())
    assert unshuffled.folder == folders[0]


@pytest.mark.parametrize("length", [0, 4, -10])
def test_a_file_cut_short_is_made_again_before_any_training(
    tmp_path, distilled, teacher, capsys, length
):
    labels = make(tmp_path, distilled, teacher)
    (file,) = files(labels)
    whole = file.read_bytes()
    file.write_bytes(whole[:length])
    make(tmp_path, distilled, teacher)
    assert file.read_bytes() == whole
    assert file.with_name(f"{file.name}.damaged-1").read_bytes() == whole[:length]
    assert f"{file} is corrupt" in capsys.readouterr().err


def test_damage_within_a_file_is_found_when_it_is_read(tmp_path, distilled, teacher, capsys):
    labels = make(tmp_path, distilled, teacher)
    (file,) = files(labels)
    whole = file.read_bytes()
    content = bytearray(whole)
    content[-5] ^= 1
    file.write_bytes(content)
    assert labels.epoch(0).keys()
    assert file.read_bytes() == whole
    assert file.with_name(f"{file.name}.damaged-1").read_bytes() == content
    assert f"{file} is corrupt (checksum" in capsys.readouterr().err
    file.unlink()
    labels = of(tmp_path, distilled, teacher, stored_recipe())
    with pytest.raises(UserError, match="does not exist"):
        labels.epoch(0)


def test_files_in_the_wrong_place_are_made_again(tmp_path, distilled, teacher, capsys):
    labels = make(tmp_path, distilled, teacher, file_bytes=3 * ONE_EPOCH)
    other = make(tmp_path, distilled, teacher, file_bytes=3 * ONE_EPOCH, label_seed=1)
    first, last = files(labels)
    whole = first.read_bytes()
    first.write_bytes(files(other)[0].read_bytes())
    labels.make("cpu")
    assert first.read_bytes() == whole
    first.write_bytes(last.read_bytes())
    labels.epoch(0)
    assert first.read_bytes() == whole
    assert capsys.readouterr().err.count("holds labels of another set, teacher, recipe") == 2


def test_labels_that_the_disk_cannot_hold_are_refused(tmp_path, distilled, teacher, monkeypatch):
    full = type("Usage", (), {"free": EPOCHS * ONE_EPOCH - 1})
    monkeypatch.setattr("benchmarks.students.stored_labels.shutil.disk_usage", lambda path: full)
    with pytest.raises(UserError, match=r"need 432 bytes, but .* has 431 bytes left: make room"):
        make(tmp_path, distilled, teacher)
    assert teacher.calls == 0


def evaluate(distilled, data, teacher, recipe, **options: Any):
    student = Student("convnet2-w8")
    training = TrainingSet.of(distilled, recipe, data.mean, data.std)
    return evaluate_student(training, data, teacher, student, seed=0, run=Run(CPU, **options))


def test_a_student_says_what_its_labels_and_its_teacher_cost(tmp_path, distilled, data, teacher):
    offline = evaluate(distilled, data, teacher, stored_recipe(), labels_folder=tmp_path)
    (folder,) = tmp_path.iterdir()
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    assert (offline.label_bytes, offline.teacher_bytes) == (size, 0)
    assert offline.teacher_flops == 0

    online = evaluate(
        distilled, data, teacher, load_recipe("unified", {"epochs": EPOCHS, "batch_size": 4})
    )
    numbers = sum(tensor.nbytes for tensor in teacher.state_dict().values())
    assert online.label_bytes == 0
    assert online.teacher_bytes >= numbers > 0
    hard = evaluate(distilled, data, None, load_recipe("hard", {"epochs": 1}))
    assert (hard.label_bytes, hard.teacher_bytes) == (0, 0)


def test_what_is_missing_for_stored_labels_is_said(tmp_path, distilled, data, teacher):
    with pytest.raises(UserError, match="needs a teacher"):
        evaluate(distilled, data, None, stored_recipe(), labels_folder=tmp_path)
    with pytest.raises(UserError, match="give labels_folder"):
        evaluate(distilled, data, teacher, stored_recipe())
    with pytest.raises(UserError, match=r"label_top_k .* below the 3 classes"):
        evaluate(distilled, data, teacher, stored_recipe(label_top_k=3), labels_folder=tmp_path)
