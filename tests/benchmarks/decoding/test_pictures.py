import torch
from PIL import Image

from benchmarks.decoding.pictures import REAL_COLUMNS, curve_figure, decoding_sheet
from benchmarks.decoding.record import ImageFigures
from ddoq.data import TensorSplit
from ddoq.distillation.shard import Shard
from ddoq.measures import Seen


def test_equal_records_give_equal_curves(record, tmp_path):
    record.sets.append(ImageFigures("centroids, decoded without diffusion", 20, 0.3, 2.0))
    for name in ("a.png", "b.png"):
        curve_figure(record, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as image:
        assert image.width > 2 * image.height
    record.settings.reverse()
    record.sets.pop()
    curve_figure(record, tmp_path / "c.png")
    assert (tmp_path / "c.png").read_bytes() != (tmp_path / "a.png").read_bytes()


def test_real_images_stand_left_of_decoded_ones(record, tmp_path):
    """Real ones are red here, decoded ones blue: a row of each class goes from red to blue."""
    red, blue = (torch.zeros(10, 3, 8, 8, dtype=torch.uint8) for _ in range(2))
    red[:, 0], blue[:, 2] = 255, 255
    labels = torch.arange(2).repeat_interleave(5)
    shards = [Shard(blue[:5], labels[:5]), Shard(blue[5:], labels[5:])]
    seen = Seen(labels, torch.full((10,), 0.5), torch.zeros(10, 2), labels)
    decoding_sheet(record, TensorSplit(red, labels), shards, seen, tmp_path / "s.png")
    with Image.open(tmp_path / "s.png") as sheet:
        colours = [sheet.getpixel((x, 40)) for x in range(sheet.width)]
    reds = [x for x, colour in enumerate(colours) if colour == (255, 0, 0)]
    blues = [x for x, colour in enumerate(colours) if colour == (0, 0, 255)]
    assert REAL_COLUMNS * 64 == len(reds) == len(blues)
    assert max(reds) < min(blues)
