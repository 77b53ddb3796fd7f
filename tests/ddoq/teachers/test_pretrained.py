import json

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from torchvision import models

from ddoq.data import load_registry
from ddoq.data.base import ImageDataModule
from ddoq.data.class_registry import ClassRegistry
from ddoq.data.splits import TensorSplit
from ddoq.errors import UserError
from ddoq.networks import build_network
from ddoq.teachers import PretrainedTeacher, Teacher, split_accuracies

TRAINER = {"accelerator": "cpu", "enable_progress_bar": False}
WNIDS = ["n01440764", "n02102040", "n02979186"]  # tench, English springer, cassette player
NUMBERS = [0, 217, 482]
V1 = models.ResNet18_Weights.IMAGENET1K_V1


class Three(ImageDataModule):
    """Noise in three classes."""

    name = "three"

    def __init__(self, keys=WNIDS, image_size=32, source="three"):
        super().__init__(image_size)
        self.keys, self.source = keys, source
        self.setup()

    def load_splits(self):
        def split(n, seed):
            generator = torch.Generator().manual_seed(seed)
            shape = (n, 3, self.image_size, self.image_size)
            images = torch.randint(256, shape, dtype=torch.uint8, generator=generator)
            return TensorSplit(images, torch.arange(n) % len(self.keys))

        count = len(self.keys)
        return split(4 * count, 0), split(3 * count, 1), ClassRegistry(list(self.keys))

    def source_fingerprint(self):
        return f"{self.source}-{self.keys}"


@pytest.fixture(scope="module")
def resnet():
    """A ResNet-18 with 1000 outputs; its weights are not the published ones, its format is."""
    torch.manual_seed(0)
    return models.resnet18(weights=None).eval()


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """Empty caches, and no network even where there is one."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def torch_hub(offline, resnet):
    """Torch hub's folder with a file under the name of the published weights."""
    folder = offline / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(resnet.state_dict(), folder / V1.url.rpartition("/")[2])
    return folder


@pytest.fixture
def hugging_face(offline):
    """Hugging Face's cache with a snapshot under the id of published weights."""
    torch.manual_seed(1)
    network = timm.create_model("resnet18", num_classes=1000).eval()
    repository = offline / "hub" / "models--timm--resnet18.a1_in1k"
    snapshot = repository / "snapshots" / "0123456789012345678901234567890123456789"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(snapshot.name)
    save_file(network.state_dict(), snapshot / "model.safetensors")
    return network


def obtain(tmp_path, data=None, **settings):
    return PretrainedTeacher(**settings).obtain(data or Three(), tmp_path / "cache", TRAINER)


def logits_of(network, images, mean, std):
    normalized = (images - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)
    with torch.no_grad():
        return network(normalized)


IMAGES = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("classes", ["imagenet", NUMBERS])
def test_torchvision_weights_answer_for_the_datasets_classes(
    torch_hub, resnet, tmp_path, classes, capsys
):
    teacher = obtain(
        tmp_path, arch="torchvision/resnet18", weights="IMAGENET1K_V1", classes=classes
    )
    assert teacher.mean == (0.485, 0.456, 0.406)
    assert teacher.std == (0.229, 0.224, 0.225)
    expected = logits_of(resnet, IMAGES, teacher.mean, teacher.std)[:, NUMBERS]
    torch.testing.assert_close(teacher(IMAGES), expected, rtol=1e-4, atol=1e-5)
    assert teacher.class_keys == WNIDS
    data = Three()
    assert teacher.accuracy == split_accuracies(teacher, data.test)[0]
    record = teacher.training_record
    assert record["weights"] == "torchvision/resnet18, IMAGENET1K_V1"
    assert (record["outputs"], record["input_size"], record["classes"]) == (1000, 224, NUMBERS)
    assert "trained at 224 pixels, used at 32" in capsys.readouterr().out


def test_order_of_the_classes_is_that_of_the_list(torch_hub, tmp_path):
    named = {"arch": "torchvision/resnet18", "weights": "IMAGENET1K_V1"}
    one = obtain(tmp_path, **named, classes=[0, 217, 482])
    other = obtain(tmp_path, **named, classes=[482, 0, 217])
    torch.testing.assert_close(other(IMAGES), one(IMAGES)[:, [2, 0, 1]])
    assert one.fingerprint != other.fingerprint


def test_it_is_kept_with_its_accuracy(torch_hub, tmp_path, capsys):
    named = {"arch": "torchvision/resnet18", "weights": "IMAGENET1K_V1", "classes": "imagenet"}
    first = obtain(tmp_path, **named)
    assert "measured now" in capsys.readouterr().out
    (torch_hub / V1.url.rpartition("/")[2]).unlink()  # nothing is opened a second time
    second = obtain(tmp_path, **named)
    assert "reused" in capsys.readouterr().out
    assert (second.fingerprint, second.accuracy) == (first.fingerprint, first.accuracy)
    (folder,) = (f for f in (tmp_path / "cache" / "teachers").iterdir() if f.is_dir())
    assert folder.name.startswith("torchvision_resnet18-")
    # The folder is a teacher's folder like any other.
    assert Teacher.load(folder).fingerprint == first.fingerprint
    assert obtain(tmp_path, path=str(folder)).fingerprint == first.fingerprint
    assert json.loads((folder / "teacher.json").read_text())["arch"] == "torchvision/resnet18"


def test_fingerprint_follows_the_weights(torch_hub, resnet, tmp_path):
    named = {"arch": "torchvision/resnet18", "weights": "IMAGENET1K_V1", "classes": "imagenet"}
    first = obtain(tmp_path / "a", **named)
    state = resnet.state_dict()
    state["fc.bias"] = state["fc.bias"] + torch.arange(1000) * 1e-3
    torch.save(state, torch_hub / V1.url.rpartition("/")[2])
    assert obtain(tmp_path / "b", **named).fingerprint != first.fingerprint


@pytest.mark.parametrize(
    "named", [{"arch": "timm/resnet18.a1_in1k"}, {"arch": "timm/resnet18", "weights": "a1_in1k"}]
)
def test_timm_weights(hugging_face, tmp_path, named):
    teacher = obtain(tmp_path, **named, classes="imagenet")
    expected = logits_of(hugging_face, IMAGES, teacher.mean, teacher.std)[:, NUMBERS]
    torch.testing.assert_close(teacher(IMAGES), expected, rtol=1e-4, atol=1e-5)
    assert teacher.training_record["weights"] == "timm/resnet18.a1_in1k"
    assert teacher.arch == named["arch"]


def test_missing_weights_say_what_to_download_where(offline, tmp_path):
    with pytest.raises(UserError) as error:
        obtain(tmp_path, arch="torchvision/resnet18", weights="IMAGENET1K_V1", classes="imagenet")
    assert f"Download {V1.url} elsewhere" in str(error.value)
    assert str(offline / "torch" / "hub" / "checkpoints") in str(error.value)
    with pytest.raises(UserError) as error:
        obtain(tmp_path, arch="timm/resnet18.a1_in1k", classes="imagenet")
    assert "hf download timm/resnet18.a1_in1k" in str(error.value)
    assert f"copy models--timm--resnet18.a1_in1k from its cache into {offline / 'hub'}" in str(
        error.value
    )
    assert not list((tmp_path / "cache").rglob("teacher.json"))


def test_broken_file_and_pickled_code_are_refused(torch_hub, tmp_path):
    file = torch_hub / V1.url.rpartition("/")[2]
    named = {"arch": "torchvision/resnet18", "weights": "IMAGENET1K_V1", "classes": "imagenet"}
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"does not hold the weights IMAGENET1K_V1 .* delete it"):
        obtain(tmp_path, **named)
    torch.save(Three(), file)  # an object, whose class would have to be imported
    with pytest.raises(UserError, match="does not hold the weights"):
        obtain(tmp_path, **named)


LOCAL = "convnet2-w8-bn"


@pytest.fixture
def local(tmp_path):
    """A state dict of one's own with five outputs."""
    torch.manual_seed(2)
    network = build_network(LOCAL, 5, 32).eval()
    save_file(network.state_dict(), tmp_path / "mine.safetensors")
    return network, str(tmp_path / "mine.safetensors")


def test_state_dict_of_ones_own(local, tmp_path):
    network, path = local
    five = Three([f"class {i}" for i in range(5)])
    teacher = obtain(tmp_path, five, arch=LOCAL, path=path)
    torch.testing.assert_close(
        teacher(IMAGES), logits_of(network, IMAGES, five.mean, five.std), rtol=1e-4, atol=1e-5
    )
    some = obtain(
        tmp_path,
        arch=LOCAL,
        path=path,
        classes=[4, 0, 2],
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
    )
    expected = logits_of(network, IMAGES, (0.5,) * 3, (0.25,) * 3)[:, [4, 0, 2]]
    torch.testing.assert_close(some(IMAGES), expected, rtol=1e-4, atol=1e-5)
    assert some.training_record["outputs"] == 5


def test_file_in_place_of_named_weights_takes_over_their_normalisation(offline, resnet, tmp_path):
    save_file(resnet.state_dict(), tmp_path / "v1.safetensors")
    teacher = obtain(
        tmp_path,
        arch="torchvision/resnet18",
        weights="IMAGENET1K_V1",
        path=str(tmp_path / "v1.safetensors"),
        classes="imagenet",
    )
    assert teacher.mean == (0.485, 0.456, 0.406)
    expected = logits_of(resnet, IMAGES, teacher.mean, teacher.std)[:, NUMBERS]
    torch.testing.assert_close(teacher(IMAGES), expected, rtol=1e-4, atol=1e-5)


def test_another_file_is_another_teacher(local, tmp_path):
    network, path = local
    settings = {"arch": LOCAL, "path": path, "classes": [0, 1, 2]}
    first = obtain(tmp_path, **settings)
    state = {key: value.clone() for key, value in network.state_dict().items()}
    state[next(iter(state))] += 0.1
    save_file(state, path)
    assert obtain(tmp_path, **settings).fingerprint != first.fingerprint


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "needs a path, or an arch with weights"),
        ({"path": "somewhere", "classes": [0]}, "teacher.classes needs teacher.arch"),
        ({"arch": LOCAL, "path": "x", "mean": (0.0, 0.0, 0.0)}, "give both or neither"),
        ({"arch": "torchvision/resnet18"}, "no weights are named.* IMAGENET1K_V1"),
        ({"arch": "torchvision/resnet50", "weights": "DEFAULT"}, "V1, IMAGENET1K_V2"),
        ({"arch": "torchvision/resnet18", "weights": "IMAGENET1K_V7"}, "Did you mean 'IMAGENET1K"),
        ({"arch": "torchvision/resnet19", "weights": "V1"}, "Did you mean 'resnet1[08]'"),
        ({"arch": "timm/resnet18"}, r"timm/resnet18.TAG with one of a1_in1k, a2_in1k"),
        ({"arch": "timm/resnet18.a9_in1k"}, "no weights 'a9_in1k'. Did you mean 'a[123]_in1k'"),
        ({"arch": "timm/resnet18.a1_in1k", "weights": "a2_in1k"}, "names the weights a1_in1k, but"),
        ({"arch": "timm/resnet1.a1_in1k"}, "no network called 'resnet1'. Near it"),
        ({"arch": "tv/resnet18", "weights": "V1"}, "Unknown library 'tv'.*torchvision"),
        ({"arch": "resnet18"}, "names no library.*timm/resnet18"),
        ({"arch": LOCAL, "path": "/nowhere.safetensors"}, "does not exist"),
        ({"arch": LOCAL, "path": "/"}, "is a folder"),
        ({"arch": "timm/resnet18.a1_in1k", "stem": "small"}, "teacher.stem"),
    ],
)
def test_wrong_settings(offline, tmp_path, settings, words):
    with pytest.raises(UserError, match=words):
        obtain(tmp_path, **settings)


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (None, "knows 1000 classes, but three has 3. Set teacher.classes: `imagenet`"),
        ([0, 1], "teacher.classes lists 2 outputs, but three has 3 classes"),
        ([0, 1, 1000], "lists 1000, but torchvision/resnet18, IMAGENET1K_V1 has outputs 0 to 999"),
        ([0, 1, -1], "lists -1"),
        ([5, 1, 5], "lists output 5 more than once"),
    ],
)
def test_wrong_classes_are_refused_before_anything_is_downloaded(offline, tmp_path, classes, words):
    with pytest.raises(UserError, match=words):
        obtain(tmp_path, arch="torchvision/resnet18", weights="IMAGENET1K_V1", classes=classes)


def test_keys_that_are_no_wordnet_ids_are_named(torch_hub, tmp_path):
    with pytest.raises(UserError, match="tench"):
        obtain(
            tmp_path,
            Three(["tench", "dog", "cat"]),
            arch="torchvision/resnet18",
            weights="IMAGENET1K_V1",
            classes="imagenet",
        )


def test_whole_imagenet_in_another_order_is_noticed(offline, tmp_path):
    keys = load_registry("imagenet-1k").keys
    named = {"arch": "torchvision/resnet18", "weights": "IMAGENET1K_V1"}
    with pytest.raises(
        UserError, match=r"another order .* label 0 is number 1 .*classes: imagenet"
    ):
        obtain(tmp_path, Three([keys[1], keys[0], *keys[2:]], image_size=8), **named)
    with pytest.raises(UserError, match="cannot be downloaded"):  # in its order only the file lacks
        obtain(tmp_path, Three(keys, image_size=8), **named)


def test_wrong_state_dicts(local, tmp_path):
    _, path = local
    with pytest.raises(UserError, match=r"mine\.safetensors knows 5 classes, but three has 3"):
        obtain(tmp_path, arch=LOCAL, path=path)
    with pytest.raises(UserError, match=r"does not hold the network of teacher\.arch"):
        obtain(tmp_path, arch="convnet2-w16-bn", path=path, classes=[0, 1, 2])
    with pytest.raises(UserError, match=r"fc\.weight is missing"):
        obtain(tmp_path, arch="torchvision/resnet18", path=path, classes=[0, 1, 2])
    (tmp_path / "cut.safetensors").write_bytes(b"no tensors")
    with pytest.raises(UserError, match="cannot be read"):
        obtain(tmp_path, arch=LOCAL, path=str(tmp_path / "cut.safetensors"))
    torch.save({}, tmp_path / "old.pth")
    with pytest.raises(UserError, match="nothing is unpickled here"):
        obtain(tmp_path, arch=LOCAL, path=str(tmp_path / "old.pth"))
