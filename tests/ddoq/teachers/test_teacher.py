import json
import re

import pytest
import torch
from safetensors.torch import load_file, save_file
from torchvision.transforms.v2 import functional as tv

from ddoq.data.base import ImageDataModule
from ddoq.data.class_registry import ClassRegistry
from ddoq.data.splits import TensorSplit
from ddoq.errors import UserError
from ddoq.finite import NotFiniteError
from ddoq.networks import build_network
from ddoq.teachers import Teacher


class FourShades(ImageDataModule):
    """Black, dark, light and white images with noise."""

    name = "shades"

    def __init__(self, keys=("a", "b", "c", "d"), image_size=16):
        super().__init__(image_size)
        self.keys = keys

    def load_splits(self):
        def split(n, seed):
            generator = torch.Generator().manual_seed(seed)
            labels = torch.arange(n) % len(self.keys)
            noise = torch.randint(
                0, 40, (n, 3, self.image_size, self.image_size), generator=generator
            )
            return TensorSplit((noise + 60 * labels[:, None, None, None]).to(torch.uint8), labels)

        return split(40, 0), split(20, 1), ClassRegistry(list(self.keys))

    def source_fingerprint(self):
        return "shades"


def make_teacher(arch="convnet2-w8-bn", seed=0, **changes):
    torch.manual_seed(seed)
    fields = {
        "class_names": ["A", "B", "C", "D"],
        "class_keys": ["a", "b", "c", "d"],
        "image_size": 16,
        "accuracy": 0.75,
        **changes,
    }
    network = build_network(
        arch,
        len(fields["class_keys"]),
        fields["image_size"],
        stem=fields.get("stem"),
        **fields.get("kwargs", {}),
    )
    return Teacher(network, arch=arch, **fields)


@pytest.fixture
def images():
    return torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(3))


def test_logits_are_those_of_the_network_on_normalised_images(images):
    teacher = make_teacher(mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    expected = teacher.network(tv.normalize(images, [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]))
    torch.testing.assert_close(teacher(images), expected)


def test_logits_are_float32_whatever_the_precision(images):
    teacher = make_teacher()
    expected = teacher(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(teacher(images), expected)
    assert teacher.to(torch.bfloat16)(images).dtype == torch.float32


def test_it_is_frozen_and_stays_in_evaluation_mode(images):
    teacher = make_teacher()
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    torch.nn.Sequential(teacher).train()(images)
    assert not any(module.training for module in teacher.modules())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert all(torch.equal(before[key], value) for key, value in teacher.state_dict().items())


def test_gradients_reach_the_images(images):
    images.requires_grad_()
    make_teacher()(images).sum().backward()
    assert images.grad.abs().sum() > 0


@pytest.mark.parametrize(
    "wrong",
    [
        torch.rand(2, 3, 32, 32),
        torch.rand(2, 1, 16, 16),
        torch.rand(3, 16, 16),
        torch.zeros(2, 3, 16, 16, dtype=torch.uint8),
    ],
)
def test_wrong_images_are_refused(wrong):
    with pytest.raises(UserError, match="The teacher takes"):
        make_teacher()(wrong)


def test_fingerprint_follows_weights_and_configuration_only():
    base = make_teacher().fingerprint
    assert make_teacher().fingerprint == base
    assert make_teacher(accuracy=0.5, training={"epochs": 3}).fingerprint == base
    assert make_teacher(seed=1).fingerprint != base
    assert make_teacher(mean=(0.5, 0.5, 0.5)).fingerprint != base
    assert make_teacher(class_keys=["b", "a", "c", "d"]).fingerprint != base


@pytest.mark.parametrize(
    ("arch", "changes"),
    [
        ("convnet2-w8-bn", {}),
        ("resnet18", {"stem": "small"}),
        ("vit_tiny_patch16_224", {"kwargs": {"patch_size": 4, "depth": 1}}),
    ],
)
def test_save_and_load_keep_everything(tmp_path, images, arch, changes):
    teacher = make_teacher(arch, accuracy_top5=1.0, training={"epochs": 2}, **changes)
    teacher.save(tmp_path / "t")
    torch.manual_seed(11)
    state = torch.get_rng_state()
    loaded = Teacher.load(tmp_path / "t")
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(loaded(images), teacher(images))
    for name in ("fingerprint", "accuracy", "accuracy_top5", "class_names", "class_keys", "mean"):
        assert getattr(loaded, name) == getattr(teacher, name)
    assert loaded.training_record == {"epochs": 2}
    assert not loaded.training


def edit(folder, **changes):
    path = folder / "teacher.json"
    record = json.loads(path.read_text())
    record.pop("checksum", None)
    record.update(changes)
    path.write_text(json.dumps({k: v for k, v in record.items() if v is not ...}))


def test_a_changed_digit_of_its_accuracy_is_noticed(tmp_path):
    make_teacher().save(tmp_path)
    path = tmp_path / "teacher.json"
    whole = path.read_text()
    path.write_text(re.sub(r'("accuracy": 0)\.\d', r"\1.1", whole))
    assert path.read_text() != whole
    with pytest.raises(UserError, match=r"teacher\.json was changed after it was written"):
        Teacher.load(tmp_path)


def test_damaged_folders_are_explained(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        Teacher.load(tmp_path / "none")

    def fresh(name):
        folder = tmp_path / name
        make_teacher().save(folder)
        return folder

    for missing in ("model.safetensors", "teacher.json"):
        folder = fresh(f"without-{missing}")
        (folder / missing).unlink()
        with pytest.raises(UserError, match=f"{missing} does not exist"):
            Teacher.load(folder)

    folder = fresh("cut")
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:-100])
    with pytest.raises(UserError, match="corrupt"):
        Teacher.load(folder)

    folder = fresh("flipped")
    (folder / "model.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(UserError, match="checksum"):
        Teacher.load(folder)

    folder = fresh("foreign")
    save_file(load_file(folder / "model.safetensors"), folder / "model.safetensors")
    with pytest.raises(UserError, match="checksum"):
        Teacher.load(folder)

    folder = fresh("not-json")
    (folder / "teacher.json").write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        Teacher.load(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 99}, "format"),
        ({"mean": ...}, "lacks mean"),
        ({"class_names": ["A"]}, "class_names"),
        ({"class_keys": ["a", "c", "b", "d"]}, "fingerprint"),
        ({"std": [1, 1, 1]}, "fingerprint"),
        ({"class_keys": list("abc"), "class_names": list("abc")}, "does not hold the network"),
        ({"arch": "convnet3-w8-bn"}, "does not hold the network"),
        ({"arch": "convnet2-w8x"}, "no ConvNet"),
    ],
)
def test_edited_records_are_refused(tmp_path, changes, message):
    make_teacher().save(tmp_path)
    edit(tmp_path, **changes)
    with pytest.raises(UserError, match=message):
        Teacher.load(tmp_path)


def test_weights_of_another_teacher_are_refused(tmp_path):
    make_teacher(seed=0).save(tmp_path / "one")
    make_teacher(seed=1).save(tmp_path / "two")
    (tmp_path / "two" / "model.safetensors").replace(tmp_path / "one" / "model.safetensors")
    with pytest.raises(UserError, match="do not belong together"):
        Teacher.load(tmp_path / "one")


def test_names_and_keys_must_agree():
    with pytest.raises(UserError, match="3 class names, but 4 class keys"):
        make_teacher(class_names=["A", "B", "C"])


@pytest.mark.parametrize(
    ("keys", "image_size", "message"),
    [
        (("a", "b", "c"), 16, "knows 4 classes, but shades has 3"),
        (("a", "c", "b", "d"), 16, "another order .* label 1 is 'b' to the teacher and 'c'"),
        (("a", "b", "c", "e"), 16, "other classes .* label 3"),
        (("a", "b", "c", "d"), 32, "16 pixels, but shades has 32"),
    ],
)
def test_other_datasets_are_refused(keys, image_size, message):
    data = FourShades(keys, image_size)
    data.setup()
    with pytest.raises(UserError, match=message):
        make_teacher().check_matches(data)


def test_its_own_dataset_is_accepted():
    data = FourShades()
    data.setup()
    make_teacher().check_matches(data)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["weight", "running_var"])
def test_weights_that_are_not_finite_are_refused(tmp_path, where, value):
    network = build_network("convnet2-w8-bn", 4, 16)
    tensors = network.state_dict()
    next(part for name, part in tensors.items() if name.endswith(where)).flatten()[0] = value
    names = ["a", "b", "c", "d"]
    teacher = Teacher(
        network,
        arch="convnet2-w8-bn",
        class_names=names,
        class_keys=names,
        image_size=16,
        accuracy=0.5,
    )
    with pytest.raises(NotFiniteError, match=rf"convnet2-w8-bn has weights .*{where}"):
        teacher.check_finite()
    teacher.save(tmp_path)
    with pytest.raises(NotFiniteError, match=r"model\.safetensors: The teacher .* not finite"):
        Teacher.load(tmp_path)


@pytest.mark.parametrize("default", [torch.bfloat16, torch.float64])
def test_logits_are_the_same_under_any_default_dtype(images, default):
    teacher = make_teacher()
    expected = teacher(images)
    torch.set_default_dtype(default)
    try:
        assert torch.equal(teacher(images), expected)
    finally:
        torch.set_default_dtype(torch.float32)
