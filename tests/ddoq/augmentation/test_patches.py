import pytest
import torch

from ddoq.augmentation.patches import draw_patches, shuffle_patches


@pytest.mark.parametrize(
    ("height", "width", "factor"), [(8, 8, 2), (9, 9, 3), (11, 14, 3), (6, 5, 1)]
)
def test_equals_cutting_and_joining(height, width, factor):
    images = torch.randint(0, 256, (20, 3, height, width), dtype=torch.uint8)
    orders = draw_patches(20, factor, torch.Generator().manual_seed(0))
    rows = [height // factor] * (factor - 1) + [height - height // factor * (factor - 1)]
    columns = [width // factor] * (factor - 1) + [width - width // factor * (factor - 1)]
    for image, (vertical, horizontal), result in zip(
        images, orders.tolist(), shuffle_patches(images, orders), strict=True
    ):
        strips = image.split(rows, dim=1)
        reference = torch.cat([strips[i] for i in vertical], dim=1)
        strips = reference.split(columns, dim=2)
        reference = torch.cat([strips[i] for i in horizontal], dim=2)
        assert torch.equal(result, reference)


def test_orders_are_equally_likely_and_rows_independent_of_columns():
    orders = draw_patches(40000, 2, torch.Generator().manual_seed(0))
    _, counts = orders.flatten(1).unique(dim=0, return_counts=True)
    assert counts.tolist() == pytest.approx([10000] * 4, rel=0.05)
