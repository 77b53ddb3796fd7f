import pytest
import torch
import torch.nn.functional as F
from torchvision.transforms.v2 import RandomResizedCrop

from ddoq.selection.patches import (
    best_boxes,
    box_means,
    cut_patches,
    propose_boxes,
    rank_in_clusters,
    stitch,
)


def noise(*shape: int) -> torch.Tensor:
    return torch.randint(256, shape, generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def propose(numbers, count=5, size=(32, 32), scale=(0.08, 1.0), **keys):
    return propose_boxes(numbers, count, size, scale, **({"seed": 0, "label": 0} | keys))


def test_boxes_of_an_image_depend_on_seed_class_and_its_number_alone():
    together = propose([3, 7, 1])
    assert together.shape == (3, 5, 4)
    assert torch.equal(propose([1, 3]), together[[2, 0]])
    others = (propose([3]), propose([3], seed=1), propose([3], label=1), propose([4]))
    assert len({str(boxes.tolist()) for boxes in others}) == 4


def test_boxes_are_squares_inside_of_the_image_with_areas_spread_over_the_scale():
    boxes = propose(range(200), scale=(0.25, 0.5)).flatten(0, 1)
    top, left, height, width = boxes.unbind(1)
    assert torch.equal(height, width)
    assert bool((boxes >= 0).all() and (top + height <= 32).all() and (left + width <= 32).all())
    shares = (height * width).double() / 32**2
    assert 0.22 < shares.min() < shares.max() < 0.53  # whole pixels
    assert float(shares.mean()) == pytest.approx(0.375, abs=0.01)
    torch.manual_seed(0)
    crop = RandomResizedCrop(8, scale=(0.25, 0.5), ratio=(1, 1))
    sides = [crop.make_params([torch.zeros(3, 32, 32)])["height"] for _ in range(1000)]
    assert float(height.double().mean()) == pytest.approx(sum(sides) / 1000, abs=0.3)


def test_a_box_of_the_whole_image_copies_it():
    images = noise(2, 3, 8, 8)
    whole = propose([0, 1], count=1, size=(8, 8), scale=(1.0, 1.0))[:, 0]
    assert torch.equal(cut_patches(images, whole, 8), images / 255)


@pytest.mark.parametrize("side", [4, 16])
def test_patches_are_resized_bilinearly_with_antialiasing(side):
    images = noise(2, 3, 12, 12)
    boxes = torch.tensor([[1, 2, 9, 9], [0, 5, 7, 7]])
    patches = cut_patches(images, boxes, side)
    for image, box, patch in zip(images, boxes.tolist(), patches, strict=True):
        top, left, height, width = box
        cut = image[None, :, top : top + height, left : left + width] / 255
        expected = F.interpolate(cut, size=(side, side), mode="bilinear", antialias=True)[0]
        torch.testing.assert_close(patch, expected)


@pytest.mark.parametrize("cells", [4, 32, 64])
def test_means_over_boxes_are_those_of_every_pixel(cells):
    """Against a map that is repeated until its cells are smaller than pixels of the image."""
    maps = torch.rand(2, cells, cells, generator=torch.Generator().manual_seed(1))
    boxes = propose([0, 1], count=6)
    fine = maps.repeat_interleave(64 // cells, 1).repeat_interleave(64 // cells, 2)
    means = box_means(maps, boxes, (32, 32))
    for image in range(2):
        for number, (top, left, height, width) in enumerate(boxes[image].tolist()):
            part = fine[image, 2 * top : 2 * (top + height), 2 * left : 2 * (left + width)]
            assert float(means[image, number]) == pytest.approx(float(part.double().mean()))


def test_the_best_box_of_each_image_and_of_equal_ones_the_first():
    boxes = torch.arange(24).reshape(2, 3, 4)
    scores = torch.tensor([[2.0, 1.0, 1.0], [0.0, 5.0, -1.0]])
    kept, lowest = best_boxes(boxes, scores)
    assert torch.equal(kept, torch.stack([boxes[0, 1], boxes[1, 2]]))
    assert lowest.tolist() == [1.0, -1.0]


def test_ranks_inside_clusters_take_one_of_each_before_a_second():
    scores = torch.rand(60, generator=torch.Generator().manual_seed(2))
    clusters = torch.arange(60) % 7
    chosen = rank_in_clusters(scores, clusters, 20)
    assert sorted(clusters[chosen].bincount().tolist()) == [2, 3, 3, 3, 3, 3, 3]
    for number in range(3):
        part = chosen[7 * number : 7 * (number + 1)]
        assert len(set(clusters[part].tolist())) == len(part)
        assert torch.equal(scores[part], scores[part].sort().values)
        for position in part.tolist():
            own = scores[clusters == clusters[position]]
            assert int((own < scores[position]).sum()) == number


def test_one_cluster_is_the_order_of_scores_and_an_empty_one_is_left_out():
    scores = torch.tensor([0.3, 0.1, 0.2, 0.1])
    assert rank_in_clusters(scores, torch.zeros(4), 4).tolist() == [1, 3, 2, 0]
    clusters = torch.tensor([0, 0, 2, 0])
    assert rank_in_clusters(scores, clusters, 4).tolist() == [1, 2, 3, 0]


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_images_are_filled_with_every_nth_patch(factor):
    count = 4
    patches = torch.rand(count * factor**2, 3, 5, 5)
    images = stitch(patches, factor)
    assert images.shape == (count, 3, 5 * factor, 5 * factor)
    for image in range(count):
        for cell in range(factor**2):
            y, x = 5 * (cell // factor), 5 * (cell % factor)
            part = images[image, :, y : y + 5, x : x + 5]
            assert torch.equal(part, patches[image + cell * count])
