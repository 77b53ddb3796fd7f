import copy
import logging

import pytest
import torch
from torch.nn import functional as F

from baselines.sre2l import SRe2L
from baselines.sre2l.recover import collect_gaps
from ddoq.distillation.distilled_set import DistilledSet
from ddoq.distillation.shard import Shard
from ddoq.errors import UserError
from ddoq.images import to_float
from ddoq.networks import Normalize, build_network
from ddoq.teachers import Teacher, teacher_accuracy

MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.2, 0.3)


def network_for(data, arch="convnet2-w8-bn"):
    torch.manual_seed(0)
    network = build_network(arch, data.num_classes, data.image_size)
    for _ in range(5):  # gives batch norms statistics worth matching
        network(torch.randn(32, 3, data.image_size, data.image_size))
    return network.eval()


def teacher_for(data, network=None, **changes):
    record = {
        "arch": "convnet2-w8-bn",
        "class_names": data.classes.names,
        "class_keys": data.classes.keys,
        "image_size": data.image_size,
        "accuracy": 0.5,
        "mean": MEAN,
        "std": STD,
    }
    return Teacher(network or network_for(data), **(record | changes))


def settings(**changes):
    return {"ipc": 2, "iterations": 5, "jitter": 2, "crop_scale": (0.3, 1.0)} | changes


@pytest.fixture
def data(make_data):
    return make_data(num_classes=5, per_class=4)


def attached(data, teacher=None, **changes):
    distiller = SRe2L(**settings(**changes))
    distiller.attach(data, teacher=teacher or teacher_for(data))
    return distiller


def distill_all(distiller):
    return [distiller.distill(item) for item in distiller.work_items(distiller.data)]


@pytest.mark.parametrize(
    ("num_classes", "block", "sizes"), [(5, 100, [5]), (5, 2, [2, 2, 1]), (6, 3, [3, 3])]
)
def test_a_batch_holds_different_classes_one_image_each(make_data, num_classes, block, sizes):
    data = make_data(num_classes=num_classes, per_class=2)
    items = SRe2L(**settings(ipc=3, class_block=block)).work_items(data)
    assert [len(item.classes) for item in items] == sizes * 3
    assert all(len(set(item.classes)) == len(item.classes) for item in items)
    assert [item.index for item in items] == list(range(len(items)))
    assert len({item.name for item in items}) == len(items)
    made = sorted((label, item.block) for item in items for label in item.classes)
    assert made == [(label, image) for label in range(num_classes) for image in range(3)]


def test_image_ids_come_first(data):
    items = SRe2L(**settings(ipc=2, class_block=3)).work_items(data)
    assert [(item.block, item.classes) for item in items] == [
        (0, (0, 1, 2)),
        (0, (3, 4)),
        (1, (0, 1, 2)),
        (1, (3, 4)),
    ]


def test_shard_holds_what_the_item_says(data):
    distiller = attached(data, class_block=3)
    for item, shard in zip(distiller.work_items(data), distill_all(distiller), strict=True):
        assert shard.images.shape == (len(item.classes), 3, 8, 8)
        assert shard.images.dtype == torch.uint8
        assert shard.labels.tolist() == list(item.classes)
        assert shard.labels.dtype == torch.int64


def test_bits_do_not_depend_on_order_or_neighbours(data):
    distiller = attached(data, class_block=2)
    items = distiller.work_items(data)
    forwards = [shard.images for shard in distill_all(distiller)]
    torch.manual_seed(99)
    fresh = attached(data, class_block=2)
    backwards = [fresh.distill(item).images for item in reversed(items)][::-1]
    assert all(torch.equal(a, b) for a, b in zip(forwards, backwards, strict=True))


@pytest.mark.parametrize("inference_mode", [False, True])
def test_a_run_takes_gradients_where_lightning_forbids_them(
    data, make_trainer, inference_mode, tmp_path
):
    trainer = make_trainer(inference_mode)
    distilled, _ = attached(data, class_block=3).run(trainer, tmp_path)
    direct = distill_all(attached(data, class_block=3))
    images, labels = (
        torch.cat([getattr(shard, name) for shard in direct]) for name in ("images", "labels")
    )
    assert torch.equal(distilled.images, images[labels.argsort(stable=True)])


def test_items_and_seeds_differ(data):
    first, second = (shard.images for shard in distill_all(attached(data)))
    other = attached(data, seed=1)
    assert not torch.equal(first, second)
    assert not torch.equal(first, other.distill(other.work_items(data)[0]).images)


def test_blocks_start_from_different_noise(make_data):
    # With so small a rate the images are the noise.
    distiller = attached(make_data(num_classes=4), class_block=2, ipc=1, iterations=1, lr=1e-9)
    first, second = (shard.images.float() for shard in distill_all(distiller))
    assert (first - second).abs().mean() > 30


def test_larger_budget_reuses_the_shards_of_a_smaller_one(data):
    small, large = attached(data, ipc=1), attached(data, ipc=3)
    assert small.shard_settings() == large.shard_settings()
    assert small.work_items(data) == large.work_items(data)[:1]
    assert torch.equal(distill_all(small)[0].images, distill_all(large)[0].images)
    assert small.shard_settings() != attached(data, lr=0.1).shard_settings()


def test_teacher_is_unchanged_bit_for_bit(data):
    distiller = attached(data)
    before = copy.deepcopy(distiller.teacher.state_dict())
    distill_all(distiller)
    assert all(torch.equal(before[k], v) for k, v in distiller.teacher.state_dict().items())
    assert all(p.grad is None for p in distiller.teacher.parameters())


def test_whole_range_of_pixels_is_used_and_rounded(data):
    # With this learning rate every pixel is thrown against a bound in the last step that moves it.
    shard = distill_all(attached(data, lr=50.0, iterations=2, crop_scale=None, ipc=1))[0]
    for channel in range(3):
        assert int(shard.images[:, channel].min()) == 0
        assert int(shard.images[:, channel].max()) == 255


def test_record(data, caplog):
    distiller = attached(data, ipc=1, iterations=40, crop_scale=None, jitter=0, flip=False)
    with caplog.at_level(logging.INFO, logger="baselines"):
        (shard,) = distill_all(distiller)
    assert len(caplog.records) == 1
    assert shard.info["bn_loss_last"] < shard.info["bn_loss_first"]
    assert shard.info["cross_entropy_last"] < shard.info["cross_entropy_first"]
    with torch.no_grad():
        logits = distiller.teacher(to_float(shard.images))
    top1 = float((logits.argmax(1) == shard.labels).float().mean())
    assert shard.info["teacher_top1"] == pytest.approx(top1)
    # Nothing is augmented, so that rounding and one step of a vanishing rate are all the difference.
    assert shard.info["cross_entropy_last"] == pytest.approx(
        float(F.cross_entropy(logits, shard.labels)), abs=0.02
    )


def test_record_survives_the_disk(data, tmp_path):
    shard = distill_all(attached(data, ipc=1))[0]
    shard.save(tmp_path / "a.safetensors", {})
    assert Shard.load(tmp_path / "a.safetensors")[0].info == shard.info


def test_summary_weighs_items_by_images():
    names = (
        "cross_entropy_first",
        "cross_entropy_last",
        "bn_loss_first",
        "bn_loss_last",
        "teacher_top1",
    )
    infos = [dict.fromkeys(names, 1.0) | {"images": 3}, dict.fromkeys(names, 0.0) | {"images": 1}]
    assert SRe2L(1).summarize(infos) == dict.fromkeys(names, 0.75)


def test_runs_under_a_trainer(data, trainer, tmp_path):
    distiller = attached(data, class_block=3)
    distilled, _ = distiller.run(trainer, tmp_path)
    shards = distill_all(attached(data, class_block=3))
    assert distilled.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert torch.equal(distilled.images[0::2], torch.cat([shards[0].images, shards[1].images]))
    assert torch.equal(distilled.images[1::2], torch.cat([shards[2].images, shards[3].images]))
    assert torch.equal(distilled.weights, torch.ones(10))
    assert 0 <= distilled.metadata["statistics"]["teacher_top1"] <= 1


def test_half_precision_is_refused(data):
    for precision in ("32-true", "bf16-mixed"):
        assert attached(data, precision=precision).context()["precision"] == precision
    for precision in ("16-mixed", "bf16-true"):
        with pytest.raises(UserError, match=f"precision must be .* not {precision}"):
            attached(data, precision=precision)


def test_defaults_are_the_official_imagenet_script():
    expected = {
        "iterations": 4000,
        "lr": 0.25,
        "r_bn": 0.01,
        "jitter": 32,
        "crop_scale": (0.08, 1.0),
        "flip": True,
        "first_bn_multiplier": 10.0,
        "class_block": 100,
    }
    assert SRe2L(1).settings() == {"ipc": 1, "seed": 0} | expected


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"iterations": 0}, "iterations must be at least 1"),
        ({"class_block": 0}, "class_block must be at least 1"),
        ({"r_bn": -1.0}, "r_bn must be at least 0"),
        ({"r_bn": float("nan")}, "SRe2L.r_bn must be a finite number, not nan"),
        (
            {"first_bn_multiplier": float("inf")},
            "SRe2L.first_bn_multiplier must be a finite number, not inf",
        ),
        ({"lr": 0.0}, "lr must be above 0"),
        ({"jitter": -1}, "jitter must be in"),
        ({"jitter": 8}, r"jitter must be in \[0, 7\] for images of 8 pixels"),
        ({"crop_scale": (0.0, 1.0)}, "crop_scale"),
        ({"crop_scale": (0.9, 0.1)}, "crop_scale"),
        ({"crop_scale": (0.5, 1.5)}, "crop_scale"),
        ({"ipc": 0}, "ipc must be at least 1"),
        ({"groups_per_step": 0}, "groups_per_step must be at least 1"),
        ({"crop_curriculum": 1.5}, r"crop_curriculum must be in \[0, 1\]"),
        ({"crop_curriculum": 1.0, "crop_scale": None}, "but crop_scale is null: give crop_scale"),
    ],
)
def test_wrong_settings(data, changes, words):
    with pytest.raises(UserError, match=words):
        SRe2L(**settings(**changes)).check(data)


def test_wrong_teachers(data, make_data):
    distiller = SRe2L(**settings())
    with pytest.raises(UserError, match="needs a teacher"):
        distiller.attach(data)
    without = teacher_for(data, network_for(data, "convnet2-w8-in"), arch="convnet2-w8-in")
    with pytest.raises(UserError, match="convnet2-w8-in has none"):
        distiller.attach(data, teacher=without)
    with pytest.raises(UserError, match="knows 3 classes, but held has 5"):
        distiller.attach(data, teacher=teacher_for(make_data(num_classes=3)))
    shuffled = teacher_for(data, class_keys=data.classes.keys[::-1])
    with pytest.raises(UserError, match="another order"):
        distiller.attach(data, teacher=shuffled)
    with pytest.raises(UserError, match="takes images of 16 pixels"):
        distiller.attach(data, teacher=teacher_for(make_data(num_classes=5, image_size=16)))


def test_groups_together_give_the_images_of_groups_alone(data):
    changes = {"class_block": 2, "iterations": 8, "lr": 0.02}  # blocks of 2, 2 and 1 classes
    alone = distill_all(attached(data, **changes))
    bundled = attached(data, **changes, groups_per_step=4)
    items = bundled.work_items(data)
    assert [item.classes for item in items] == [(0, 1, 2, 3, 4, 0, 1), (2, 3, 4)]
    together = distill_all(bundled)
    labels, images = (
        torch.cat([getattr(shard, name) for shard in alone]) for name in ("labels", "images")
    )
    assert torch.equal(torch.cat([shard.labels for shard in together]), labels)
    gap = (torch.cat([shard.images for shard in together]).float() - images.float()).abs()
    assert gap.max() <= 2  # of 255
    for name in ("bn_loss_last", "cross_entropy_last"):
        expected = sum(shard.info[name] * shard.info["images"] for shard in alone) / len(labels)
        found = sum(shard.info[name] * shard.info["images"] for shard in together) / len(labels)
        assert found == pytest.approx(expected, rel=1e-2)


def test_bundles_run_under_a_trainer_in_the_same_order(data, trainer, tmp_path):
    changes = {"class_block": 3, "ipc": 3, "iterations": 8, "lr": 0.02}
    alone, _ = attached(data, **changes).run(trainer, tmp_path)
    together, _ = attached(data, **changes, groups_per_step=4).run(trainer, tmp_path)
    assert torch.equal(together.labels, alone.labels)
    assert (together.images.float() - alone.images.float()).abs().max() <= 2


def test_bundle_that_ipc_cut_short_is_not_taken_for_a_whole_one(data):
    small = SRe2L(**settings(ipc=3, groups_per_step=2)).work_items(data)
    large = SRe2L(**settings(ipc=4, groups_per_step=2)).work_items(data)
    assert small[0] == large[0]
    assert [item.name for item in small[1:]] == ["image-0002-classes-0000-groups-1"]
    assert [item.name for item in large[1:]] == ["image-0002-classes-0000-groups-2"]


def test_later_settings_enter_keys_only_where_they_are_used(data):
    plain = attached(data)
    unchanged = {
        "groups_per_step": 1,
        "compile": False,
        "crop_curriculum": 0.0,
        "faithful": False,
    }
    assert attached(data, **unchanged).settings() == plain.settings()
    assert not unchanged.keys() & plain.settings().keys()
    for name, value in {**dict.fromkeys(unchanged, True), "groups_per_step": 2}.items():
        changed = attached(data, **{name: value})
        assert changed.shard_settings() == plain.shard_settings() | {name: value}


def test_faithful_images_went_through_jpeg_and_the_record_says_so(data, trainer, tmp_path):
    changes = {"crop_scale": None, "iterations": 2}
    plain, _ = attached(data, **changes).run(trainer, tmp_path)
    faithful, folder = attached(data, **changes, faithful=True).run(trainer, tmp_path)
    # 8 x 8 noise is the worst case for JPEG: much is lost, and what is left is the same image.
    gap = (faithful.images.float() - plain.images.float()).abs().mean()
    assert 2 < gap < 60
    assert "codec" not in plain.metadata
    assert DistilledSet.load(folder).metadata["codec"] == "jpeg-q75"


def test_curriculum_changes_the_images(data):
    first = distill_all(attached(data, iterations=20))[0].images
    assert not torch.equal(
        first, distill_all(attached(data, iterations=20, crop_curriculum=1.0))[0].images
    )


@pytest.mark.slow
def test_compiled_run_goes_the_same_way(data):
    changes = {"ipc": 2, "class_block": 3, "lr": 0.02}
    expected, compiled = attached(data, **changes), attached(data, **changes, compile=True)
    for one, other in zip(distill_all(expected), distill_all(compiled), strict=True):
        assert (one.images.float() - other.images.float()).abs().max() <= 2
    assert len(compiled._objectives) == 2  # one for each size of a batch, whatever ipc is


@pytest.fixture(scope="module")
def digits_teacher(digits):
    network = network_for(digits, "convnet2-w24-bn").train()
    normalize = Normalize(MEAN, STD)
    images, labels = normalize(to_float(digits.train.images)), digits.train.labels
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3)
    order = torch.Generator().manual_seed(0)
    for _ in range(4):
        for part in torch.randperm(len(labels), generator=order).split(64):
            optimizer.zero_grad()
            F.cross_entropy(network(images[part]), labels[part]).backward()
            optimizer.step()
    teacher = teacher_for(digits, network.eval(), arch="convnet2-w24-bn")
    assert teacher_accuracy(teacher, digits.train.images, labels) > 0.95
    return teacher


# Cropping trains the statistics of crops; those of the whole images follow less closely.
@pytest.mark.parametrize(("crop_scale", "share"), [(None, 0.3), ((0.3, 1.0), 1.0)])
def test_teacher_sees_digits_and_familiar_statistics(digits, digits_teacher, crop_scale, share):
    changes = {"ipc": 1, "iterations": 150, "lr": 0.1, "r_bn": 0.1, "flip": False, "jitter": 1}
    distiller = attached(digits, digits_teacher, crop_scale=crop_scale, **changes)
    (shard,) = distill_all(distiller)
    assert shard.info["teacher_top1"] == 1
    recovered = digits_teacher.normalize(to_float(shard.images))
    pixels = torch.randint(256, recovered.shape, generator=torch.Generator().manual_seed(0))
    noise = digits_teacher.normalize(pixels / 255)
    gaps = []
    for images in (recovered, noise):
        with torch.no_grad(), collect_gaps(digits_teacher.network) as found:
            digits_teacher.network(images)
        gaps.append(float(sum(found)))
    assert gaps[0] < share * gaps[1]


@pytest.mark.parametrize("where", ["weight", "running_var", "running_mean"])
def test_a_teacher_that_is_not_finite_is_refused(data, where):
    network = network_for(data)
    tensors = network.state_dict()
    next(part for name, part in tensors.items() if name.endswith(where)).flatten()[0] = torch.nan
    with pytest.raises(UserError, match=rf"teacher convnet2-w8-bn has weights .*{where}"):
        attached(data, teacher_for(data, network))


def test_images_that_diverge_are_not_kept(data, trainer, tmp_path):
    teacher = teacher_for(data)
    teacher.network.register_forward_hook(lambda *args: args[-1] * float("nan"))
    distiller = attached(data, teacher)
    distiller.checkpoint_seconds = 0
    message = (
        r"sre2l, image-.*diverged: the loss was nan in step 1 of 5\. Lower model\.init_args\.lr"
    )
    with pytest.raises(UserError, match=message):
        distiller.run(trainer, tmp_path)
    assert not [path for path in tmp_path.rglob("*image-*") if path.is_file()]
