import pytest
import torch
import torch.nn.functional as F

from baselines.rded import RDED
from benchmarks.leaderboard.published import published_numbers
from ddoq.costs.workload import Parts, Sizes
from ddoq.errors import UserError
from ddoq.images import to_float
from ddoq.selection.patches import cut_patches


def attached(data, teacher, **changes):
    method = RDED(**({"ipc": 2, "crops": 3} | changes))
    method.attach(data, teacher=teacher)
    return method


def test_keeps_the_crops_that_the_teacher_is_surest_of(make_data, colour_teacher):
    """The whole method again, an image at a time."""
    data = make_data()
    teacher = colour_teacher(data)
    method = attached(data, teacher, pool=10)
    for label, item in enumerate(method.work_items(data)):
        proposals = method.propose(label)
        best = []
        for image, boxes in zip(proposals.images, proposals.boxes, strict=True):
            patches = torch.cat([cut_patches(image[None], box[None], 8) for box in boxes])
            entropies = F.cross_entropy(teacher(patches), torch.full((3,), label), reduction="none")
            best.append((float(entropies.min()), patches[int(entropies.argmin())]))
        kept = sorted(range(10), key=lambda i: best[i][0])[:2]
        shard = method.distill(item)
        assert shard.info["indices"] == [[int(proposals.positions[i])] for i in kept]
        expected = torch.stack([best[i][1] for i in kept])
        assert float((to_float(shard.images) - expected).abs().max()) <= 0.5001 / 255


def test_batches_change_nothing(make_data, colour_teacher):
    data = make_data()
    teacher = colour_teacher(data)
    images = [
        [method.distill(item).images for item in method.work_items(data)]
        for method in (attached(data, teacher, batch_size=size, factor=2) for size in (1, 7, 256))
    ]
    for other in images[1:]:
        assert all(torch.equal(*pair) for pair in zip(images[0], other, strict=True))


def test_a_smaller_budget_is_the_beginning_of_a_larger_one(make_data, colour_teacher):
    data = make_data()
    teacher = colour_teacher(data)
    small, large = (
        [m.distill(item).images for item in m.work_items(data)]
        for m in (attached(data, teacher, ipc=ipc) for ipc in (2, 6))
    )
    assert all(torch.equal(b[:2], a) for a, b in zip(small, large, strict=True))


def test_teachers_that_do_not_fit_are_refused(make_data, colour_teacher):
    data = make_data()
    with pytest.raises(UserError, match="rded needs a teacher"):
        attached(data, None)
    with pytest.raises(UserError, match="knows 2 classes, but held has 3"):
        attached(data, colour_teacher(make_data(num_classes=2)))
    with pytest.raises(UserError, match="takes images of 16 pixels, but held has 8"):
        attached(data, colour_teacher(make_data(image_size=16)))
    swapped = colour_teacher(data)
    swapped.class_keys = swapped.class_keys[::-1]
    with pytest.raises(UserError, match="the same classes in another order"):
        attached(data, swapped)


def test_every_crop_of_the_pools_is_planned_to_be_seen_once(make_data, colour_teacher):
    data = make_data()
    teacher = colour_teacher(data)
    (stage,) = attached(data, teacher, pool=10).workload(
        Sizes.of(data), Parts(None, teacher.network)
    )
    assert stage.passes == 3 * 10 * 3
    assert stage.files == {"images": 3 * 2 * 3 * 8 * 8}
    (stage,) = attached(data, teacher).workload(Sizes.of(data), Parts(None, teacher.network))
    assert stage.passes == 3 * 12 * 3
    assert attached(data, teacher).workload(Sizes.of(data), Parts()) is None


def test_published_numbers_stand_under_its_name():
    numbers = [number for number in published_numbers() if number.method == RDED.method]
    budgets = {(number.dataset, number.ipc) for number in numbers}
    assert {
        ("cifar10", 10),
        ("cifar100", 50),
        ("tiny-imagenet", 10),
        ("imagenet-1k", 10),
    } <= budgets
