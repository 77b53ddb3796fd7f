from dataclasses import replace

import pytest
import torch

from ddoq.decoding.decoded import Decoded
from ddoq.decoding.transform import Transform
from ddoq.images import to_uint8
from ddoq.labels.targets import Targets

HALVES = Transform.normalize((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


@pytest.fixture
def decoded() -> Decoded:
    images = torch.rand(3, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    return Decoded(images, torch.tensor([0, 1, 1]), None, torch.ones(3), torch.arange(3))


def test_sizes(decoded):
    assert (len(decoded), decoded.size) == (3, (4, 5))


def test_anyone_may_look_at_pixels(decoded):
    pixels = to_uint8(decoded.images)
    assert replace(decoded, images=pixels).pixels() is pixels
    assert torch.equal(decoded.pixels(), pixels)
    inside = replace(
        decoded, images=HALVES.apply(decoded.images), transform=HALVES, gives_pixels=False
    )
    assert int((inside.pixels().int() - pixels.int()).abs().max()) <= 1
    # A transform says what networks take, not what is stored.
    assert torch.equal(replace(decoded, transform=HALVES).pixels(), pixels)


def test_classes_are_labels_or_what_targets_point_at(decoded):
    assert torch.equal(decoded.classes(), decoded.labels)
    scores = torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]])
    free = replace(decoded, labels=None, targets=Targets(scores, "probabilities"))
    assert free.classes().tolist() == [1, 0, 1]
    assert replace(free, targets=Targets(scores, "vectors")).classes() is None


def test_a_copy_on_a_device_holds_all(decoded):
    moved = replace(decoded, stages=torch.zeros(3).long()).to("meta")
    tensors = [moved.images, moved.labels, moved.weights, moved.index, moved.stages]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    whole = replace(decoded, targets=Targets(torch.ones(3, 2), "vectors"), transform=HALVES)
    same = whole.to("cpu")
    assert torch.equal(same.targets.values, whole.targets.values)
    assert torch.equal(same.transform.apply(decoded.images), HALVES.apply(decoded.images))
