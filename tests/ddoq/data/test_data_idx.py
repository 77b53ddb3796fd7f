import gzip
import struct

import numpy as np
import pytest
import torch
from torchvision.datasets.mnist import read_sn3_pascalvincent_tensor

from ddoq.data import FashionMNIST
from ddoq.data.idx import read_idx
from ddoq.errors import UserError

FILES = {
    "train-images-idx3-ubyte": (20, 28, 28),
    "train-labels-idx1-ubyte": (20,),
    "t10k-images-idx3-ubyte": (10, 28, 28),
    "t10k-labels-idx1-ubyte": (10,),
}


def idx_bytes(values: np.ndarray) -> bytes:
    header = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    return header + values.astype(np.uint8).tobytes()


def write(root, *, zipped=False, seed=0):
    root.mkdir(exist_ok=True)
    random = np.random.default_rng(seed)
    for name, shape in FILES.items():
        values = random.integers(0, 256, shape) if len(shape) == 3 else np.arange(shape[0]) % 10
        content = idx_bytes(values)
        path = root / (f"{name}.gz" if zipped else name)
        path.write_bytes(gzip.compress(content) if zipped else content)
    return root


def ready(root, **kwargs) -> FashionMNIST:
    data = FashionMNIST(root=str(root), **kwargs)
    data.setup()
    return data


def test_reading_agrees_with_torchvision(tmp_path):
    write(tmp_path)
    for name, shape in FILES.items():
        values = read_idx(tmp_path / name)
        assert values.shape == shape
        assert torch.equal(values, read_sn3_pascalvincent_tensor(str(tmp_path / name)))


def test_the_default_frame_touches_no_pixel(tmp_path):
    data, stored = ready(write(tmp_path)), ready(tmp_path, image_size=28)
    images = data.train.load(range(20))
    assert images.shape == (20, 3, 32, 32)
    raw = read_idx(tmp_path / "train-images-idx3-ubyte")
    assert torch.equal(images[:, :, 2:-2, 2:-2], raw.unsqueeze(1).expand(-1, 3, -1, -1))
    assert images.long().sum() == 3 * raw.long().sum()  # so the frame is black
    assert torch.equal(stored.train.load(range(20)), images[:, :, 2:-2, 2:-2])
    assert ready(tmp_path, image_size=64).test.load([0]).shape == (1, 3, 64, 64)


def test_classes(tmp_path):
    data = ready(write(tmp_path))
    assert data.classes.names[0] == "T-shirt/top"
    assert data.classes.names[9] == "ankle boot"
    assert data.classes[1].prompt == "a photo of a trouser"
    assert data.train.labels.tolist() == [*range(10), *range(10)]


def test_fingerprint_ignores_compression_and_place(tmp_path):
    plain = ready(write(tmp_path / "a")).fingerprint
    assert ready(write(tmp_path / "b", zipped=True)).fingerprint == plain
    assert ready(write(tmp_path / "c", seed=1)).fingerprint != plain
    assert ready(tmp_path / "a", image_size=28).fingerprint != plain


def test_missing_files_name_the_package(tmp_path):
    with pytest.raises(UserError, match="apt-get install dataset-fashion-mnist"):
        ready(tmp_path / "nowhere")
    (write(tmp_path) / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(UserError, match=r"t10k-labels-idx1-ubyte\[\.gz\] does not exist"):
        ready(tmp_path)


def test_damaged_files_are_named(tmp_path):
    path = write(tmp_path) / "train-images-idx3-ubyte"
    whole = path.read_bytes()
    wrong_type = b"\0\0\x0d" + whole[3:]
    damages = [
        (whole[:-1], "cut short"),
        (whole + b"x", "too long"),
        (b"", "not an idx"),
        (wrong_type, "not an idx"),
    ]
    for content, message in damages:
        path.write_bytes(content)
        with pytest.raises(UserError, match=rf"train-images-idx3-ubyte is .*{message}"):
            ready(tmp_path)
    path.unlink()
    for content in (gzip.compress(whole)[:-30], b"no gzip"):
        path.with_suffix(".gz").write_bytes(content)
        with pytest.raises(UserError, match=r"train-images-idx3-ubyte\.gz cannot be read"):
            ready(tmp_path)


def test_images_and_labels_must_belong_together(tmp_path):
    (write(tmp_path) / "train-labels-idx1-ubyte").write_bytes(idx_bytes(np.arange(19) % 10))
    with pytest.raises(UserError, match="do not belong together"):
        ready(tmp_path)
