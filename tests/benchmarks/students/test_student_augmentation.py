"""What recipes draw for an epoch: boxes of batches, and images in proportion to their weights."""

import pytest
import torch

from benchmarks.students.augmentation import draw_images, draw_recipe_epoch
from benchmarks.students.batches import EpochPositions
from benchmarks.students.recipes import load_recipe
from ddoq.augmentation.epochs import augment


def draws_of(recipe, n, seed=4, epoch=2, **options):
    plan = recipe.plan(ipc=10, num_classes=10, n=n, image_size=8)
    drawn = draw_recipe_epoch(recipe, plan, n, (8, 8), collage=1, seed=seed, epoch=epoch, **options)
    return drawn, plan


def batches_of(n, plan, seed=4, epoch=2):
    batches = EpochPositions(n, plan.batch_size, seed=seed)
    batches.epoch = epoch
    return list(batches)


CUTMIX = {"crop_scale": [1.0, 1.0], "flip": False, "batch_size": 16, "cutmix_alpha": 1.0}


def test_one_box_and_partners_within_each_batch_of_the_training():
    n, recipe = 70, load_recipe("unified", CUTMIX | {"cutmix_per": "batch"})
    drawn, plan = draws_of(recipe, n)
    images = torch.randint(256, (n, 3, 8, 8), dtype=torch.uint8)
    boxes = []
    for batch in batches_of(n, plan):
        (box,) = drawn.epoch.boxes[batch].unique(dim=0).tolist()
        partners = drawn.partners[batch]
        assert sorted(partners.tolist()) == sorted(batch.tolist())
        left, top, right, bottom = box
        mixed = images[batch].float() / 255
        mixed[:, :, top:bottom, left:right] = (images[partners] / 255)[:, :, top:bottom, left:right]
        torch.testing.assert_close(augment(images, batch, drawn.epoch), mixed)
        share = 1 - (right - left) * (bottom - top) / 64
        assert drawn.lam[batch].tolist() == pytest.approx([share] * len(batch))
        boxes.append(tuple(box))
    assert len(set(boxes)) > 1


def test_boxes_of_batches_have_cutmixs_distribution():
    recipe = load_recipe("unified", CUTMIX | {"cutmix_per": "batch", "batch_size": 2})
    n = 40000
    plain, _ = draws_of(load_recipe("unified", CUTMIX), n)
    drawn, plan = draws_of(recipe, n)
    firsts = torch.stack([batch[0] for batch in batches_of(n, plan)])
    assert drawn.lam[firsts].mean().item() == pytest.approx(plain.lam.mean().item(), abs=0.01)
    assert drawn.lam[firsts].std().item() == pytest.approx(plain.lam.std().item(), abs=0.01)


@pytest.mark.parametrize("name", ["sre2l", "rded", "hard_idc"])
def test_recipes_whose_authors_draw_one_box_a_batch(name):
    recipe = load_recipe(name, {"batch_size": 16})
    drawn, plan = draws_of(recipe, 48)
    assert [len(drawn.epoch.boxes[b].unique(dim=0)) for b in batches_of(48, plan)] == [1, 1, 1]


def test_images_are_drawn_in_proportion_to_their_weights():
    weights = torch.tensor([0.0, 0.5, 1.5, 2.0])
    counts = torch.zeros(4)
    for epoch in range(5000):
        counts += torch.bincount(draw_images(weights, seed=1, epoch=epoch), minlength=4)
    assert counts[0] == 0
    assert (counts / counts.sum()).tolist() == pytest.approx([0, 0.125, 0.375, 0.5], abs=0.01)


def test_draws_follow_seed_and_epoch():
    weights = torch.rand(50, generator=torch.Generator().manual_seed(0))
    first = draw_images(weights, seed=1, epoch=2)
    assert torch.equal(first, draw_images(weights, seed=1, epoch=2))
    for seed, epoch in ((2, 2), (1, 3)):
        assert not torch.equal(first, draw_images(weights, seed=seed, epoch=epoch))


def test_each_draw_of_an_image_is_augmented_anew():
    recipe = load_recipe("unified", {"weights": "sampling", "cutmix_alpha": 0.0})
    weights = torch.tensor([0.0, 12.0] + 10 * [0.0])
    drawn, _ = draws_of(recipe, 12, weights=weights)
    assert drawn.images_of(torch.arange(12)).tolist() == 12 * [1]
    images = torch.randint(256, (12, 3, 8, 8), dtype=torch.uint8)
    seen = augment(images, torch.arange(12), drawn.epoch)
    assert len(seen.flatten(1).unique(dim=0)) > 6
    assert images[1].min() / 255 - 1e-6 <= seen.min()
