import pytest
import torch
from torch import nn

from ddoq.data import TensorSplit
from ddoq.errors import UserError
from ddoq.finite import NotFiniteError
from ddoq.measures.recognition import show
from ddoq.networks import build_network
from ddoq.networks.features import penultimate
from ddoq.teachers import Teacher


def teacher_of(network: nn.Module, classes: int = 4) -> Teacher:
    keys = [str(label) for label in range(classes)]
    return Teacher(
        network, arch="toy", class_names=keys, class_keys=keys, image_size=8, accuracy=0.0
    )


@pytest.fixture
def teacher() -> Teacher:
    torch.manual_seed(0)
    return teacher_of(build_network("convnet2-w8", 4, 8))


@pytest.fixture
def split() -> TensorSplit:
    draws = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (30, 3, 8, 8), generator=draws, dtype=torch.uint8)
    return TensorSplit(images, torch.randint(0, 4, (30,), generator=draws))


@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_a_teacher_sees_normalised_images_whatever_the_batch(teacher, split, batch_size):
    seen = show(teacher, split, batch_size)
    images = split.images.float() / 255
    logits = teacher(images)
    assert torch.equal(seen.named, logits.argmax(1))
    assert seen.recognised == float((logits.argmax(1) == split.labels).double().mean())
    expected = logits.softmax(1)[torch.arange(30), split.labels]
    torch.testing.assert_close(seen.confidence, expected)
    torch.testing.assert_close(
        seen.features, penultimate(teacher.network, teacher.normalize(images))
    )
    assert len(seen) == 30
    assert 0 < seen.recognised < 1


def test_what_cannot_be_shown_is_refused(teacher, split):
    with pytest.raises(UserError, match="at least one image"):
        show(teacher, TensorSplit(split.images[:0], split.labels[:0]))
    with pytest.raises(UserError, match="labels 0 to 3, but an image has 4"):
        show(teacher, TensorSplit(split.images, split.labels + 1))


def test_a_teacher_without_numbers_is_refused(split):
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    nn.init.constant_(network[1].bias, float("nan"))
    with pytest.raises(NotFiniteError, match="logits that are not finite"):
        show(teacher_of(network), split)
