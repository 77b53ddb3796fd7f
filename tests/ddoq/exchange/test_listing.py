import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from ddoq.data.decoding import decode_whole, fit_square
from ddoq.errors import UserError
from ddoq.exchange.classes import ClassList
from ddoq.exchange.listing import Listing, check_classes_present, decode_listing


def encoded(width=6, height=6, level=100, codec="PNG", mode="RGB", **options) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (width, height), (level,) * 3).convert(mode).save(stream, codec, **options)
    return stream.getvalue()


def listing(*images, labels=None) -> Listing:
    labels = torch.arange(len(images)) if labels is None else torch.tensor(labels)
    classes = ClassList(["a", "b", "c"], None, "a list")
    return Listing(images, labels, None, classes, lambda i: f"image {i}", "hash")


def test_pixels_and_codec_are_those_of_the_contents(tmp_path):
    rows = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    path = tmp_path / "photo.jpg"  # a PNG under a wrong name
    Image.fromarray(rows).save(path, "PNG")
    image, codec = decode_whole(path, "x")
    assert codec == "png"
    assert torch.equal(image, torch.from_numpy(rows).permute(2, 0, 1))


def test_grey_images_become_rgb_and_turned_ones_upright():
    assert decode_whole(encoded(mode="L", level=7), "x")[0].unique().tolist() == [7]
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    image, _ = decode_whole(encoded(4, 2, codec="JPEG", exif=exif), "x")
    assert image.shape == (3, 4, 2)


@pytest.mark.parametrize("content", [b"", b"no image", encoded()[:40]])
def test_broken_images_are_named(content):
    with pytest.raises(UserError, match=r"folder/a\.png: the image cannot be decoded"):
        decode_whole(content, "folder/a.png")


def test_all_broken_images_are_named():
    with pytest.raises(UserError, match=r"2 images cannot be used: image 0: .*; image 2: "):
        decode_listing(listing(b"broken", encoded(), b"broken", encoded()))


def test_all_codecs_are_told():
    decoded = decode_listing(listing(encoded(), encoded(codec="JPEG")))
    assert (decoded.codec, decoded.stored_size) == ("jpeg+png", (6, 6))


def test_sizes_must_agree():
    with pytest.raises(UserError, match=r"image 1 is 6x4 pixels, image 0 6x6.*--image-size"):
        decode_listing(listing(encoded(), encoded(6, 4)))


def test_resizing_is_that_of_the_datasets():
    noise = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, "PNG")
    decoded = decode_listing(listing(stream.getvalue(), encoded(8, 8)), 8)
    expected = fit_square(torch.from_numpy(noise).permute(2, 0, 1), 8)
    assert torch.equal(decoded.images[0], expected)
    assert decoded.images[1].unique().tolist() == [100]
    assert decoded.stored_size is None


def test_images_of_any_shape_keep_it():
    assert decode_listing(listing(encoded(5, 3), encoded(5, 3))).images.shape == (2, 3, 3, 5)


def test_many_images_keep_their_order():
    levels = list(range(0, 200, 4))
    decoded = decode_listing(listing(*(encoded(2, 2, level) for level in levels), labels=[0] * 50))
    assert decoded.images[:, 0, 0, 0].tolist() == levels


def test_classes_without_images_are_named():
    check_classes_present(listing(encoded(), encoded(), encoded()), "here")
    with pytest.raises(UserError, match=r"here has no image of 2 of 3 classes: 0 \(a\), 2 \(c\)"):
        check_classes_present(listing(encoded(), labels=[1]), "here")


class Countless(list):
    def __len__(self):
        return 10**12


def test_a_set_that_no_memory_holds_is_refused():
    single = listing(encoded())
    with pytest.raises(UserError, match=r"images of 6x6 pixels need .* GiB .*--image-size"):
        decode_listing(replace(single, images=Countless(single.images)))
