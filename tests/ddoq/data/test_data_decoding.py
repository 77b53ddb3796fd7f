import io
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from ddoq.data.decoding import decode, decode_all, fit_square, to_rgb
from ddoq.errors import UserError

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_rgb_of_the_right_size_comes_back_bit_for_bit():
    image = decode(encoded(Image.fromarray(PIXELS)), 6, "x")
    assert torch.equal(image, torch.from_numpy(PIXELS).permute(2, 0, 1))


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK", "YCbCr"])
def test_every_mode_becomes_rgb(mode):
    grey = Image.new("RGB", (4, 4), (255, 255, 255)).convert(mode)
    kind = "TIFF" if mode in ("CMYK", "YCbCr") else "PNG"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode(encoded(grey, kind), 4, "x").eq(255).all()


def test_palettes_with_transparency_raise_no_warning():
    image = Image.fromarray(PIXELS).convert("P", palette=Image.Palette.ADAPTIVE, colors=8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decoded = decode(encoded(image, transparency=bytes([0] * 8)), 6, "x")
    assert torch.equal(decoded, torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1))


def test_sixteen_bit_grey_is_scaled_not_clipped():
    levels = np.array([[0, 257, 32768, 65535]], dtype=np.uint16)
    image = to_rgb(Image.open(io.BytesIO(encoded(Image.fromarray(levels)))))
    assert np.array(image)[0, :, 0].tolist() == [0, 1, 128, 255]
    assert np.array(to_rgb(Image.fromarray(levels.astype(np.int32))))[0, :, 1].tolist() == [
        0,
        1,
        128,
        255,
    ]


@pytest.mark.parametrize("values", [np.float32([[0.5]]), np.int32([[70000]]), np.int32([[-1]])])
def test_pixels_of_unknown_scale_are_refused(values):
    with pytest.raises(UserError, match=r"row 3: .*convert them to 8 bits"):
        decode(encoded(Image.fromarray(values), "TIFF"), 1, "row 3")


def test_exif_turns_the_image_upright():
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    stored = Image.fromarray(PIXELS[::-1, ::-1].copy())
    assert torch.equal(
        decode(encoded(stored, exif=exif), 6, "x"), decode(encoded(Image.fromarray(PIXELS)), 6, "x")
    )


@pytest.mark.parametrize("shape", [(10, 6), (6, 10), (20, 12), (3, 5), (6, 6), (7, 6), (1, 9)])
def test_fit_square_gives_the_size_asked_for(shape):
    assert fit_square(torch.zeros(3, *shape, dtype=torch.uint8), 6).shape == (3, 6, 6)


def test_fit_square_cuts_the_centre_without_touching_pixels():
    image = torch.arange(3 * 6 * 10, dtype=torch.uint8).reshape(3, 6, 10)
    assert torch.equal(fit_square(image, 6), image[:, :, 2:8])


def test_fit_square_shrinks_with_antialiasing():
    stripes = torch.zeros(3, 40, 40, dtype=torch.uint8)
    stripes[:, :, ::2] = 255
    plain = torch.nn.functional.interpolate(stripes[None].float(), size=8, mode="bilinear")
    assert set(plain.unique().tolist()) == {0.0, 255.0}  # each fifth pixel, the others unseen
    assert (fit_square(stripes, 8)[:, 2:-2, 2:-2].float() - 127.5).abs().max() < 30


@pytest.mark.parametrize("content", [b"", b"no image", encoded(Image.fromarray(PIXELS))[:60]])
def test_a_corrupt_image_is_named(content):
    with pytest.raises(UserError, match=r"cats\.parquet, row 3: the image cannot be decoded"):
        decode(content, 6, "cats.parquet, row 3")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="no such place"):
        decode(tmp_path / "gone.png", 6, "no such place")


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_change_neither_order_nor_errors(monkeypatch, threads):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    sources = [encoded(Image.new("RGB", (4, 4), (i, i, i))) for i in range(40)]
    images = decode_all(sources, 4, str)
    assert images[:, 0, 0, 0].tolist() == list(range(40))
    sources[23] = b"broken"
    with pytest.raises(UserError, match="row 23"):
        decode_all(sources, 4, lambda position: f"row {position}")
    assert decode_all([], 4, str).shape == (0, 3, 4, 4)
