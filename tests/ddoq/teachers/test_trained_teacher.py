import random
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from sklearn.datasets import load_digits
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR
from torchvision import models
from torchvision.transforms.v2 import functional as tv

from ddoq.data.base import ImageDataModule
from ddoq.data.class_registry import ClassRegistry
from ddoq.data.splits import TensorSplit, limit_classes
from ddoq.errors import UserError
from ddoq.networks import build_network
from ddoq.seeding import derive_seed
from ddoq.storage.fingerprints import hash_config
from ddoq.teachers import PretrainedTeacher, Teacher, TrainedTeacher, teacher_accuracy, training
from ddoq.teachers.accuracy import split_accuracies
from ddoq.teachers.batches import draw_teacher_epoch

TRAINER = {"accelerator": "cpu", "enable_progress_bar": False}
SMALL = {"arch": "convnet2-w8-bn", "epochs": 4, "batch_size": 16, "lr": 0.05}


class Blobs(ImageDataModule):
    """Four classes: the bright quarter of a noisy image."""

    name = "blobs"

    def __init__(self, keys=("nw", "ne", "sw", "se"), image_size=16, source="blobs"):
        super().__init__(image_size)
        self.keys, self.source = keys, source
        self.setup()

    def load_splits(self):
        def split(n, seed):
            generator = torch.Generator().manual_seed(seed)
            labels = torch.arange(n) % 4
            size = self.image_size
            images = torch.randint(0, 90, (n, 3, size, size), generator=generator)
            half = size // 2
            for i, label in enumerate(labels.tolist()):
                top, left = half * (label // 2), half * (label % 2)
                images[i, :, top : top + half, left : left + half] += 90
            return TensorSplit(images.to(torch.uint8), labels)

        return split(160, 0), split(80, 1), ClassRegistry(list(self.keys))

    def source_fingerprint(self):
        return self.source


class Digits16(ImageDataModule):
    name = "digits16"

    def __init__(self, image_size=16):
        super().__init__(image_size)
        self.setup()

    def load_splits(self):
        pixels, labels = load_digits(return_X_y=True)
        images = torch.tensor(pixels, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
        images = F.interpolate(images, size=(16, 16), mode="bilinear")
        images = (images * 255).round().to(torch.uint8).expand(-1, 3, -1, -1).contiguous()
        labels = torch.tensor(labels, dtype=torch.long)
        test = torch.arange(len(labels)) % 5 == 0
        classes = ClassRegistry([str(i) for i in range(10)])
        return (
            TensorSplit(images[~test], labels[~test]),
            TensorSplit(images[test], labels[test]),
            classes,
        )

    def source_fingerprint(self):
        return "digits"


def test_it_learns_is_cached_and_says_so(tmp_path, capsys):
    source = TrainedTeacher(**SMALL)
    data = Blobs()
    first = source.obtain(data, tmp_path, TRAINER)
    said = capsys.readouterr().out.strip().splitlines()
    assert len(said) == 1
    assert f"{first.accuracy:.2%}" in said[0]
    assert "trained in" in said[0]
    assert first.accuracy > 0.9
    assert first.accuracy_top5 == 1.0
    recomputed = teacher_accuracy(first, data.test.images, data.test.labels)
    assert first.accuracy == recomputed

    (folder,) = [path for path in (tmp_path / "teachers").iterdir() if path.is_dir()]
    assert folder.name.startswith("convnet2-w8-bn-")
    changed = (folder / "model.safetensors").stat().st_mtime_ns
    second = TrainedTeacher(**SMALL).obtain(Blobs(), tmp_path, TRAINER)
    said = capsys.readouterr().out.strip().splitlines()
    assert len(said) == 1
    assert "reused" in said[0]
    assert (folder / "model.safetensors").stat().st_mtime_ns == changed
    assert second.fingerprint == first.fingerprint
    assert second.training_record["training"]["epochs"] == 4

    third = PretrainedTeacher(str(folder)).obtain(Blobs(), tmp_path, TRAINER)
    assert third.fingerprint == first.fingerprint
    assert "loaded from" in capsys.readouterr().out
    with pytest.raises(UserError, match="another order"):
        PretrainedTeacher(str(folder)).obtain(
            Blobs(keys=("ne", "nw", "sw", "se")), tmp_path, TRAINER
        )


def test_same_seed_same_bits_and_the_callers_random_numbers_are_left_alone(tmp_path):
    prints = []
    for where, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.manual_seed(len(prints))  # whatever the caller drew before must not matter
        states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
        source = TrainedTeacher(**{**SMALL, "epochs": 2}, hflip=True, seed=seed)
        prints.append(source.obtain(Blobs(), tmp_path / where, TRAINER).fingerprint)
        assert torch.equal(torch.get_rng_state(), states[0])
        assert random.getstate() == states[1]
        assert np.array_equal(np.random.get_state()[1], states[2])
    assert prints[0] == prints[1]
    assert prints[0] != prints[2]


def test_streaming_gives_the_same_weights_as_resident_images(tmp_path, monkeypatch):
    source = TrainedTeacher(**{**SMALL, "epochs": 2}, hflip=True)
    resident = source.obtain(Blobs(), tmp_path / "resident", TRAINER)
    monkeypatch.setattr(training, "fits", lambda num_bytes, device: False)
    streamed = source.obtain(Blobs(), tmp_path / "streamed", TRAINER)
    assert streamed.fingerprint == resident.fingerprint


@pytest.mark.parametrize(
    "options",
    [
        {"arch": "resnet18", "stem": "small", "epochs": 1, "batch_size": 80},
        {"arch": "vit_tiny_patch16_224", "kwargs": {"patch_size": 8, "depth": 1}, "epochs": 1},
        {**SMALL, "optimizer": "adamw", "lr": 0.01, "label_smoothing": 0.1, "warmup": 0.0},
    ],
)
def test_other_architectures_and_optimisers(tmp_path, options):
    teacher = TrainedTeacher(**options).obtain(Blobs(), tmp_path, TRAINER)
    assert 0.0 <= teacher.accuracy <= 1.0
    assert (
        Teacher.load(next((tmp_path / "teachers").glob("*/teacher.json")).parent).arch
        == teacher.arch
    )


def test_bf16_training_keeps_float32_weights(tmp_path):
    source = TrainedTeacher(**SMALL, precision="bf16-mixed")
    teacher = source.obtain(Blobs(), tmp_path, TRAINER)
    assert teacher.accuracy > 0.9
    assert all(p.dtype == torch.float32 for p in teacher.parameters())


def test_the_precision_of_students_is_none_of_its_business(tmp_path):
    source = TrainedTeacher(**{**SMALL, "epochs": 1})
    teacher = source.obtain(Blobs(), tmp_path / "a", TRAINER)
    for precision in ("bf16-mixed", "64-true"):
        where = {**TRAINER, "precision": precision}
        assert (
            source.obtain(Blobs(), tmp_path / precision, where).fingerprint == teacher.fingerprint
        )


def test_everything_that_decides_the_weights_decides_the_cache():
    data, other = Blobs(), Blobs(source="other")
    base = TrainedTeacher().settings_for(data)
    assert base["precision"] == "32-true"
    assert TrainedTeacher(crop_pad=2).settings_for(data) == base  # an eighth of 16
    different = [
        TrainedTeacher().settings_for(other),
        TrainedTeacher(precision="bf16-mixed").settings_for(data),
        *(
            TrainedTeacher(**change).settings_for(data)
            for change in (
                {"arch": "convnet3"},
                {"kwargs": {"a": 1}},
                {"stem": "small"},
                {"epochs": 3},
                {"batch_size": 8},
                {"lr": 0.2},
                {"weight_decay": 0.0},
                {"label_smoothing": 0.1},
                {"crop_pad": 0},
                {"hflip": True},
                {"optimizer": "adamw"},
                {"warmup": 0.5},
                {"channels_last": False},
                {"nesterov": False},
                {"weight_decay_on": "all"},
                {"schedule": "cosine"},
                {"crop_scale": (0.08, 1.0)},
                {"seed": 1},
            )
        ),
    ]
    assert base not in different


def test_learning_rate_rises_then_falls_and_small_tensors_do_not_decay():
    data = Blobs()
    source = TrainedTeacher(**SMALL, weight_decay=0.3, warmup=0.25, crop_pad=0)
    module = training.TeacherModule(build_network("convnet2-w8-bn", 4, 16), data, source.training)
    configured = module.configure_optimizers()
    optimizer, schedule = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    decays = {
        parameter.ndim > 1: group["weight_decay"]
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert decays == {True: 0.3, False: 0.0}
    rates = []
    for _ in range(4 * 10):  # four epochs of 160 / 16 steps
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step() if len(rates) < 40 else None
    assert max(rates) == pytest.approx(0.05)
    assert rates.index(max(rates)) == 9  # the last of the first quarter
    assert rates[-1] < 1e-5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "teacher.epochs"),
        ({"batch_size": 1}, "teacher.batch_size"),
        ({"lr": 0.0}, "teacher.lr"),
        ({"lr": float("nan")}, "teacher.lr"),
        ({"label_smoothing": 1.0}, "teacher.label_smoothing"),
        ({"warmup": -0.1}, "teacher.warmup"),
        ({"crop_pad": -1}, "teacher.crop_pad"),
        ({"optimizer": "sdg"}, "Did you mean 'sgd'"),
        ({"schedule": "cosin"}, "Did you mean 'cosine'"),
        ({"weight_decay_on": "al"}, "Unknown teacher.weight_decay_on 'al'"),
        ({"crop_scale": (0.0, 1.0)}, "teacher.crop_scale must be two ascending numbers"),
        ({"crop_scale": (0.9, 0.1)}, "teacher.crop_scale must be two ascending numbers"),
        ({"crop_scale": (0.5, 1.0), "crop_pad": 4}, "takes the place of crop_pad"),
    ],
)
def test_bad_settings_are_refused_at_once(options, message):
    with pytest.raises(UserError, match=message):
        TrainedTeacher(**options)


@pytest.mark.parametrize("pad", [16, 1000])
def test_crops_beside_the_images_are_refused(pad, tmp_path):
    data = Blobs()
    assert TrainedTeacher(crop_pad=data.image_size - 1).settings_for(data)
    with pytest.raises(
        UserError, match=rf"teacher\.crop_pad must be below .*\(16 pixels\), not {pad}"
    ):
        TrainedTeacher(**{**SMALL, "crop_pad": pad}).obtain(data, tmp_path, TRAINER)


def test_failures_leave_no_teacher_behind(tmp_path):
    with pytest.raises(UserError, match="resnet18"):
        TrainedTeacher("resnet_18").obtain(Blobs(), tmp_path, TRAINER)
    with pytest.raises(UserError, match="diverged"):
        TrainedTeacher(**{**SMALL, "lr": 1e30, "epochs": 1}).obtain(Blobs(), tmp_path, TRAINER)
    assert not list((tmp_path / "teachers").glob("[!.]*"))


def test_other_test_images_measure_it_again_and_train_nothing(tmp_path, capsys):
    source = TrainedTeacher(**SMALL)
    whole = source.obtain(Blobs(), tmp_path, TRAINER)
    capsys.readouterr()
    part = Blobs()
    part.test_limit_per_class = 1
    part.test = limit_classes(part.test, 1, part.num_classes)
    measured = split_accuracies(whole, part.test)[0]
    for _ in range(2):  # measured, then read
        teacher = source.obtain(part, tmp_path, TRAINER)
        assert (teacher.fingerprint, teacher.accuracy) == (whole.fingerprint, measured)
        assert "reused" in capsys.readouterr().out
    (kept,) = tmp_path.glob("teachers/*/accuracy-*.json")
    kept.write_text(kept.read_text().replace(f'"accuracy": {measured}', '"accuracy": 0.125'))
    assert source.obtain(part, tmp_path, TRAINER).accuracy == measured
    assert f"damaged: {kept} was changed" in capsys.readouterr().err
    assert source.obtain(Blobs(), tmp_path, TRAINER).accuracy == whole.accuracy


def test_another_test_resize_measures_it_again_and_trains_nothing(tmp_path):
    source = TrainedTeacher(**SMALL)
    whole = source.obtain(Blobs(), tmp_path, TRAINER)
    cut = Blobs().with_test_resize(20)
    teacher = source.obtain(cut, tmp_path, TRAINER)
    assert teacher.fingerprint == whole.fingerprint
    assert teacher.accuracy == split_accuracies(whole, cut.test)[0]
    assert len(list(tmp_path.glob("teachers/*/accuracy-*.json"))) == 1


def test_digits_quickly(tmp_path):
    source = TrainedTeacher(epochs=3, batch_size=64)
    assert source.obtain(Digits16(), tmp_path, TRAINER).accuracy > 0.95


@pytest.mark.slow
def test_defaults_reach_98_percent_on_digits(tmp_path):
    assert TrainedTeacher().obtain(Digits16(), tmp_path, TRAINER).accuracy >= 0.98


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_training_on_cuda(tmp_path):
    source = TrainedTeacher(**SMALL, precision="bf16-mixed")
    trainer = {**TRAINER, "accelerator": "cuda"}
    assert source.obtain(Blobs(), tmp_path, trainer).accuracy > 0.9


@pytest.mark.parametrize("name", ["model.safetensors", "teacher.json", "manifest.json"])
def test_a_damaged_teacher_is_set_aside_and_trained_again(tmp_path, capsys, name):
    source = TrainedTeacher(**{**SMALL, "epochs": 1})
    first = source.obtain(Blobs(), tmp_path, TRAINER)
    (record,) = (tmp_path / "teachers").glob("*/teacher.json")
    for damage in (lambda content: content[:-8], lambda _: b""):
        path = record.parent / name
        path.write_bytes(damage(path.read_bytes()))
        assert source.obtain(Blobs(), tmp_path, TRAINER).fingerprint == first.fingerprint
        assert f"damaged: {path} " in capsys.readouterr().err
    assert len(list((tmp_path / "teachers").glob("*.damaged-*"))) == 2


def test_a_damaged_teacher_from_before_manifests_is_trained_again(tmp_path, capsys):
    source = TrainedTeacher(**{**SMALL, "epochs": 1})
    first = source.obtain(Blobs(), tmp_path, TRAINER)
    (manifest,) = (tmp_path / "teachers").glob("*/manifest.json")
    manifest.unlink()
    assert source.obtain(Blobs(), tmp_path, TRAINER).fingerprint == first.fingerprint
    path = manifest.with_name("model.safetensors")
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert source.obtain(Blobs(), tmp_path, TRAINER).fingerprint == first.fingerprint
    assert f"{path} is corrupt (checksum mismatch): set aside" in capsys.readouterr().err
    assert manifest.is_file()


def plainly_trained(network, data, settings, drawn_epochs, schedule_of, image_of):
    """Train by a plain loop of torch and return the learning rate of every epoch."""
    optimizer = torch.optim.SGD(
        network.parameters(), lr=settings["lr"], momentum=0.9, weight_decay=settings["weight_decay"]
    )
    schedule, rates = schedule_of(optimizer), []
    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (data.mean, data.std))
    network.train()
    for drawn in drawn_epochs:
        rates.append(optimizer.param_groups[0]["lr"])
        for batch in drawn.order.split(settings["batch_size"]):
            images = torch.stack([image_of(drawn, i) for i in batch.tolist()])
            loss = F.cross_entropy(network((images - mean) / std), data.train.labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
    return rates


def hold_plain_training(tmp_path, data, options, schedule_of, image_of, **drawing):
    settings = {**SMALL, "lr": 0.2, "weight_decay": 0.01, "batch_size": 80, "epochs": 4}
    source = TrainedTeacher(
        **{**settings, **options},
        nesterov=False,
        weight_decay_on="all",
        schedule="cosine",
        hflip=True,
        channels_last=False,
        seed=5,
    )
    teacher = source.obtain(data, tmp_path, TRAINER)
    torch.manual_seed(derive_seed(5, "teacher"))
    network = build_network("convnet2-w8-bn", 4, 16)
    drawn = [draw_teacher_epoch(160, hflip=True, seed=5, epoch=e, **drawing) for e in range(4)]
    rates = plainly_trained(network, data, settings, drawn, schedule_of, image_of)
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(
            teacher.network.state_dict()[name], tensor, rtol=2e-3, atol=1e-4, msg=name
        )
    return rates


def test_squeezing_of_cifar_equals_a_plain_loop(tmp_path):
    data = Blobs()

    def image_of(drawn, i):
        top, left = (drawn.shifts[i] + 2).tolist()  # an eighth of 16 pixels
        pixels = tv.pad(data.train.images[i].float() / 255, [2, 2, 2, 2])
        pixels = tv.crop(pixels, top, left, 16, 16)
        return tv.horizontal_flip(pixels) if drawn.flips[i] else pixels

    def schedule_of(optimizer):
        return CosineAnnealingLR(optimizer, T_max=4)

    options = {"warmup": 0.0}
    rates = hold_plain_training(tmp_path, data, options, schedule_of, image_of, crop_pad=2)
    assert rates[0] == 0.2


def test_squeezing_of_tiny_equals_a_plain_loop(tmp_path):
    data = Blobs()

    def image_of(drawn, i):
        box = drawn.crops[i].tolist()
        pixels = tv.resized_crop(data.train.images[i].float() / 255, *box, [16, 16])
        return tv.horizontal_flip(pixels) if drawn.flips[i] else pixels

    def schedule_of(optimizer):
        rising = LinearLR(optimizer, start_factor=0.01, total_iters=2)
        falling = CosineAnnealingLR(optimizer, T_max=2)
        return SequentialLR(optimizer, [rising, falling], milestones=[2])

    options = {"warmup": 0.5, "crop_scale": (0.3, 1.0)}
    drawing = {"crop_pad": 0, "crop_scale": (0.3, 1.0), "size": (16, 16)}
    rates = hold_plain_training(tmp_path, data, options, schedule_of, image_of, **drawing)
    assert rates[0] == pytest.approx(0.002)


def test_teachers_without_the_later_options_keep_their_keys():
    class Known:
        image_size, normalized_fingerprint = 32, "x"

    def key(**options):
        return hash_config(TrainedTeacher(**options).settings_for(Known()))

    # Keys under which teachers were stored before there were these options.
    assert key(hflip=True) == "91504bd2791740b2"
    assert key(nesterov=True, weight_decay_on="matrices", schedule="one_cycle") == key()


@pytest.mark.parametrize("name", ["tiny_imagenet", "cifar100", "cifar10"])
def test_the_shipped_teachers_are_those_of_the_scripts(name):
    """Squeezing as SRe2L's scripts say it, for CIFAR-100 and Tiny-ImageNet."""
    folder = Path(__file__).parents[3] / "configs"
    file = "datasets/tiny_imagenet.yaml" if name == "tiny_imagenet" else "scales/gpu.yaml"
    given = yaml.safe_load((folder / file).read_text())["teacher"]["init_args"]
    said = TrainedTeacher(**given).training
    common = (said.optimizer, said.nesterov, said.weight_decay_on, said.schedule, said.hflip)
    assert common == ("sgd", False, "all", "cosine", True)
    numbers = (said.epochs, said.batch_size, said.lr, said.weight_decay, said.label_smoothing)
    data = yaml.safe_load((folder / f"datasets/{name}.yaml").read_text())["data"]["init_args"]
    if name == "tiny_imagenet":
        assert numbers == (50, 256, 0.2, 1e-4, 0.0)
        assert said.warmup * said.epochs == 5
        assert said.crop_scale == (0.08, 1.0)
        assert (data["mean"], data["std"]) == ([0.4802, 0.4481, 0.3975], [0.2302, 0.2265, 0.2262])
    else:
        assert numbers == (200, 128, 0.1, 5e-4, 0.0)
        assert (said.warmup, said.crop_scale) == (0.0, None)
        assert TrainedTeacher(**given).crop_pad is None  # an eighth: 4 of 32 pixels
    if name == "cifar100":
        assert (data["mean"], data["std"]) == ([0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010])


@pytest.mark.parametrize("file", ["datasets/tiny_imagenet.yaml", "scales/gpu.yaml"])
def test_the_shipped_teachers_begin_as_those_of_the_scripts(file):
    """torchvision's ResNet-18 with another stem: the same tensors, of the same spread, all gammas 1."""
    folder = Path(__file__).parents[3] / "configs"
    given = yaml.safe_load((folder / file).read_text())["teacher"]["init_args"]
    torch.manual_seed(0)
    ours = build_network(given["arch"], 100, 32, stem=given["stem"], **given["kwargs"])
    theirs = models.resnet18(num_classes=100)
    theirs.conv1 = torch.nn.Conv2d(3, 64, 3, padding=1, bias=False)
    plain = dict(theirs.named_parameters())
    own = dict(ours.named_parameters())
    assert {name: p.shape for name, p in own.items()} == {n: p.shape for n, p in plain.items()}
    for name in own.keys() - {"conv1.weight"}:
        spread = pytest.approx(plain[name].std().item(), rel=0.1, abs=1e-9)
        assert own[name].std().item() == spread, name
        if "bn" in name and name.endswith("weight"):
            assert bool((own[name] == 1).all()), name
    with torch.no_grad():
        assert ours.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 100)
        assert ours.maxpool(torch.zeros(1, 64, 32, 32)).shape[-1] == 32
