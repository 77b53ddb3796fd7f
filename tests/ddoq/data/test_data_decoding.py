import io
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from ddoq.data import decoding
from ddoq.data.decoding import (
    MAX_PIXELS,
    Encoded,
    ImageLimits,
    UnreadableImagesError,
    check_encoded,
    decode,
    decode_all,
    decode_whole,
    fit_square,
    to_rgb,
)
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


def strip(width: int, height: int = 1, kind: str = "PNG") -> bytes:
    """A gradient: a few hundred bytes whatever its length."""
    levels = np.linspace(0, 255, width).astype(np.uint8)
    return encoded(Image.fromarray(np.repeat(levels[None], height, 0)), kind)


def test_a_strip_that_asks_for_gigabytes_is_refused_before_it_is_decoded():
    with pytest.raises(UserError, match=r"row 3: .*100000 and 1 pixels.*max_aspect_ratio 100"):
        decode(strip(100_000), 224, "row 3")
    with pytest.raises(UserError, match="1000 x 10 pixels, more than max_pixels 9999"):
        decode(strip(1000, 10), 8, "row 3", ImageLimits(max_pixels=9999))


def test_a_strip_that_is_allowed_is_cropped_before_it_is_resized(monkeypatch):
    resize, seen = decoding.tv.resize, []

    def watched(image, size, **options):
        seen.append(tuple(image.shape))
        return resize(image, size, **options)

    monkeypatch.setattr(decoding.tv, "resize", watched)
    image = decode(strip(100_000), 64, "x", ImageLimits(max_aspect_ratio=1e6))
    assert image.shape == (3, 64, 64)
    assert seen[0][2] <= 8  # of 100,000 columns
    assert abs(float(image.float().mean()) - 127.5) < 1  # the middle of the gradient


@pytest.mark.parametrize("shape", [(2, 404), (404, 2), (3, 903), (6, 2406)])
@pytest.mark.parametrize("size", [2, 16])  # odd ones may shift by half a pixel of the result
def test_cropping_first_gives_the_same_square(shape, size):
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, *shape), generator=generator, dtype=torch.uint8)
    whole = decoding.tv.center_crop(decoding.tv.resize(image, [size], antialias=True), [size, size])
    assert (fit_square(image, size).int() - whole.int()).abs().max() <= 1


@pytest.mark.parametrize("shape", [(10, 7), (7, 10), (30, 500), (5, 5 * 100)])
def test_ordinary_images_keep_the_bits_of_resizing_whole(shape):
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, *shape), generator=generator, dtype=torch.uint8)
    whole = decoding.tv.center_crop(decoding.tv.resize(image, [6], antialias=True), [6, 6])
    assert torch.equal(fit_square(image, 6), whole)


def test_a_bomb_is_named_and_the_limit_can_be_raised(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    monkeypatch.setattr(decoding, "MAX_PIXELS", 200)
    with pytest.raises(UserError, match=r"cats/3\.png: the image cannot be decoded \(Image size"):
        decode(strip(30, 20), 4, "cats/3.png", ImageLimits(max_pixels=200))
    assert decode(strip(30, 20), 4, "x", ImageLimits(max_pixels=600)).shape == (3, 4, 4)
    assert Image.MAX_IMAGE_PIXELS == 100  # put back


def test_the_bound_is_that_of_pillow():
    assert MAX_PIXELS == 2 * Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("limits", [{"max_pixels": 0}, {"max_aspect_ratio": float("nan")}])
def test_limits_that_no_image_could_keep_are_refused(limits):
    with pytest.raises(UserError, match="must be at least 1"):
        ImageLimits(**limits)


RANDOM = np.random.default_rng(1).integers(0, 256, (40, 40, 3), dtype=np.uint8)
FILES = {
    "PNG": encoded(Image.fromarray(RANDOM)),
    "JPEG": encoded(Image.fromarray(RANDOM), "JPEG"),
    "WEBP": encoded(Image.fromarray(RANDOM), "WEBP"),
    "GIF": encoded(Image.fromarray(RANDOM), "GIF"),
}


@pytest.mark.parametrize("kind", FILES)
def test_the_cheap_check_finds_what_decoding_would(kind, tmp_path):
    whole = FILES[kind]
    check_encoded(whole, "x")
    check_encoded(whole + b"\0 further bytes", "x")  # decoders stop at the end of the image
    (tmp_path / "half").write_bytes(whole[: len(whole) // 2])
    for broken in (whole[: len(whole) // 2], whole[:20], b"", tmp_path / "half", tmp_path / "gone"):
        with pytest.raises(UnreadableImagesError, match=r"^1 image cannot be used: cats/3: the"):
            check_encoded(broken, "cats/3")


def test_a_flipped_byte_in_a_png_is_found():
    flipped = bytearray(FILES["PNG"])
    flipped[len(flipped) // 2] ^= 1
    assert "cats/3" in Encoded(bytes(flipped), "cats/3").fault()


def test_a_list_of_faults_is_capped_with_a_count():
    text = str(UnreadableImagesError([f"{i}.png: broken" for i in range(250)]))
    assert text.startswith("250 images cannot be used: 0.png: broken; 1.png: broken;")
    assert "9.png" in text
    assert "10.png" not in text
    assert "and 240 more (`ddoq-bench check` lists all)" in text


def test_the_codec_is_that_of_the_contents():
    assert [decode_whole(content, "x")[1].upper() for content in FILES.values()] == list(FILES)
