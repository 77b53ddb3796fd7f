import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from ddoq import fonts
from ddoq.decoding.decoders import Grid
from ddoq.decoding.form import SetForm
from ddoq.decoding.transform import Transform
from ddoq.distillation.distilled_set import DistilledSet
from ddoq.distillation.figures import captioned_sheet, image_sheet, set_sheet
from ddoq.labels.targets import Targets


def draw(path, classes=3, per_class=2, side=16, names=None, **kwargs):
    count = classes * per_class
    levels = torch.arange(1, count + 1, dtype=torch.uint8)  # every image in a grey of its own
    images = levels[:, None, None, None].expand(count, 3, side, side).contiguous()
    labels = torch.arange(classes).repeat_interleave(per_class)
    names = names or [f"class {index}" for index in range(classes)]
    image_sheet(images, labels, torch.linspace(0, 2, count), names, path, **kwargs)
    return Image.open(path).convert("RGB")


def blocks(sheet):
    """Count pixels by grey level, each of which marks one image."""
    pixels = np.asarray(sheet)
    grey = pixels[(pixels == pixels[..., :1]).all(-1)][:, 0]
    return np.bincount(grey, minlength=256)


@pytest.mark.parametrize(
    ("side", "drawn"), [(8, 64), (16, 64), (28, 84), (64, 64), (128, 128), (256, 128)]
)
def test_images_are_enlarged_by_whole_factors_or_reduced(tmp_path, side, drawn):
    sheet = draw(tmp_path / "sheet.png", side=side)
    # Text is antialiased in greys, too, so a few pixels more may have the level.
    assert drawn**2 <= blocks(sheet)[1] < drawn**2 + 50


def test_pixels_are_repeated_not_smoothed(tmp_path):
    images = torch.zeros(1, 3, 16, 16, dtype=torch.uint8)
    images[0, 0, ::2] = 255  # stripes of red and black
    image_sheet(images, torch.zeros(1, dtype=torch.int64), torch.ones(1), ["a"], tmp_path / "s.png")
    colours = {c: n for n, c in Image.open(tmp_path / "s.png").getcolors(2**24)}
    assert colours[(255, 0, 0)] == 64 * 32
    assert {c for c in colours if len(set(c)) > 1} == {(255, 0, 0)}


def test_rows_are_classes_and_columns_are_images(tmp_path):
    sheet = draw(tmp_path / "sheet.png", classes=2, per_class=3)
    where = {level: np.argwhere(np.asarray(sheet)[..., 0] == level) for level in range(1, 7)}
    middle = {level: np.median(points, axis=0) for level, points in where.items()}
    # Steps of a whole image, up to the few grey pixels of antialiased text.
    steps = {level: (middle[level] - middle[1]) / (64 + 6) for level in range(1, 7)}
    down = [round(float(steps[level][0])) for level in range(1, 7)]
    right = [round(float(steps[level][1])) for level in range(1, 7)]
    assert down == [0, 0, 0, 1, 1, 1]
    assert right == [0, 1, 2, 0, 1, 2]


def test_more_images_than_fit_are_left_out(tmp_path):
    wide = draw(tmp_path / "a.png", per_class=12, max_per_class=10)
    ten = draw(tmp_path / "b.png", per_class=10)
    assert wide.size == ten.size
    assert blocks(wide)[10] >= 64**2
    assert blocks(wide)[11] < 64**2


def test_many_classes_stay_readable(tmp_path):
    sheet = draw(tmp_path / "sheet.png", classes=200, per_class=1)
    assert sheet.height < 40 * 100
    shown = np.flatnonzero(blocks(sheet)[1:201] >= 64**2) + 1
    assert shown.tolist() == list(range(1, 201, 5))  # 40 of 200, from one end to the other


def test_odd_names_and_empty_classes(tmp_path):
    names = ["a very, very long name of a class that nobody could print whole", "línea\n\nÄλж", ""]
    images = torch.full((1, 3, 16, 16), 7, dtype=torch.uint8)
    label = torch.tensor([2])
    image_sheet(images, label, torch.ones(1), names, tmp_path / "new" / "s.png")
    sheet = Image.open(tmp_path / "new" / "s.png")
    assert sheet.width < 400
    assert blocks(sheet.convert("RGB"))[7] >= 64**2


def test_weights_are_printed(tmp_path):
    images, labels = torch.zeros(1, 3, 16, 16, dtype=torch.uint8), torch.tensor([0])
    for name, weight in (("a", 1.0), ("b", 1.0), ("c", 0.25)):
        image_sheet(images, labels, torch.tensor([weight]), ["x"], tmp_path / name)
    a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
    assert a == b != c


@pytest.mark.parametrize(
    "images", [torch.zeros(2, 3, 8, 8), torch.zeros(2, 1, 8, 8, dtype=torch.uint8)]
)
def test_other_images_are_refused(tmp_path, images):
    with pytest.raises(ValueError, match="images must be uint8"):
        image_sheet(images, torch.tensor([0, 0]), torch.ones(2), ["a"], tmp_path / "s.png")
    assert list(tmp_path.iterdir()) == []


def test_labels_and_weights_must_match(tmp_path):
    images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    with pytest.raises(ValueError, match="one entry an image"):
        image_sheet(images, torch.tensor([0]), torch.ones(2), ["a"], tmp_path / "s.png")


def test_captions_are_drawn_and_must_match(tmp_path):
    images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    labels = torch.tensor([0, 0])
    captioned_sheet(images, labels, ["1.00", "1.00"], ["a"], tmp_path / "captions.png")
    image_sheet(images, labels, torch.ones(2), ["a"], tmp_path / "weights.png")
    captioned_sheet(images, labels, ["real", "90 %"], ["a"], tmp_path / "other.png")
    kept, weights, other = (
        (tmp_path / f"{n}.png").read_bytes() for n in ("captions", "weights", "other")
    )
    assert kept == weights != other
    with pytest.raises(ValueError, match="one entry an image"):
        captioned_sheet(images, labels, ["real"], ["a"], tmp_path / "s.png")


def whole_set(images, labels, **more):
    return DistilledSet(images, labels, torch.ones(len(images)), ["a", "b"], **more)


def test_a_set_is_drawn_as_students_see_it(tmp_path):
    levels = torch.arange(1, 17, dtype=torch.uint8).reshape(2, 1, 2, 4)
    images = levels.repeat_interleave(4, 2).repeat_interleave(2, 3).expand(2, 3, 8, 8).contiguous()
    grid = whole_set(images, torch.tensor([0, 1]), form=SetForm(Grid(2)))
    set_sheet(grid, tmp_path / "grid.png")
    decoded = grid.decode()
    image_sheet(
        decoded.pixels(), decoded.labels, decoded.weights, ["a", "b"], tmp_path / "same.png"
    )
    assert (tmp_path / "grid.png").read_bytes() == (tmp_path / "same.png").read_bytes()
    set_sheet(whole_set(images, torch.tensor([0, 1])), tmp_path / "plain.png")
    assert (tmp_path / "grid.png").read_bytes() != (tmp_path / "plain.png").read_bytes()


def test_a_set_of_another_space_and_without_classes_is_drawn_in_pixels(tmp_path):
    pixels = torch.full((2, 3, 8, 8), 7 / 255)
    halves = Transform.normalize((0.5,) * 3, (0.25,) * 3)
    free = whole_set(
        halves.apply(pixels),
        None,
        targets=Targets(torch.ones(2, 5), "vectors"),
        form=SetForm(transform=halves),
    )
    set_sheet(free, tmp_path / "sheet.png")
    assert blocks(Image.open(tmp_path / "sheet.png").convert("RGB"))[7] == 2 * 64 * 64


def test_letters_that_no_font_has_are_told_and_numbered(tmp_path, monkeypatch, capsys):
    drawn = []
    plain = ImageDraw.ImageDraw.text
    monkeypatch.setattr(fonts, "_installed", list)
    fonts.font_for.cache_clear()
    monkeypatch.setattr(
        ImageDraw.ImageDraw,
        "text",
        lambda self, at, t, *r: drawn.append(t) or plain(self, at, t, *r),
    )
    names = ["cat", "\u732b", "a/b\x00\n\u202e" + "very long " * 30]
    draw(tmp_path / "sheet.png", names=names)
    assert drawn[0] == "cat"
    assert "1: \\u732b" in drawn
    assert any(text.startswith("a/b very") and text.endswith("\u2026") for text in drawn)
    told = capsys.readouterr().out
    assert "no installed font has all letters of 1 class names ('\\u732b', ...)" in told
    fonts.font_for.cache_clear()
