import pytest
import torch
from sklearn.metrics import accuracy_score, top_k_accuracy_score
from torch import nn

from ddoq.data.splits import TensorSplit
from ddoq.errors import UserError
from ddoq.networks import build_network
from ddoq.teachers import Teacher, split_accuracies, teacher_accuracy


@pytest.fixture
def teacher():
    torch.manual_seed(0)
    keys = [str(i) for i in range(8)]
    return Teacher(
        build_network("convnet2-w8", 8, 8),
        arch="convnet2-w8",
        class_names=keys,
        class_keys=keys,
        image_size=8,
        accuracy=0.0,
    )


@pytest.fixture
def labelled():
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (101, 3, 8, 8), generator=generator, dtype=torch.uint8)
    return images, torch.randint(0, 8, (101,), generator=generator)


@pytest.mark.parametrize("batch_size", [1, 7, 50, 101, 500])
def test_equals_scikit_learn_for_any_batch_size(teacher, labelled, batch_size):
    images, labels = labelled
    logits = teacher(images.float() / 255)
    top1, top5 = split_accuracies(teacher, TensorSplit(images, labels), batch_size)
    assert top1 == pytest.approx(accuracy_score(labels, logits.argmax(1)), abs=1e-7)
    assert top5 == pytest.approx(
        top_k_accuracy_score(labels, logits.numpy(), k=5, labels=range(8)), abs=1e-7
    )
    assert teacher_accuracy(teacher, images, labels, batch_size) == top1
    assert 0 < top1 < top5 < 1


def test_few_classes_have_a_top5_of_one(labelled):
    images, labels = labelled
    keys = ["a", "b", "c"]
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    teacher = Teacher(
        network, arch="linear", class_names=keys, class_keys=keys, image_size=8, accuracy=0.0
    )
    assert split_accuracies(teacher, TensorSplit(images, labels % 3))[1] == 1.0


@pytest.mark.parametrize(
    ("n", "labels", "message"),
    [
        (3, [0, 1], "3 images, but 2 labels"),
        (0, [], "at least one image"),
        (2, [0, 8], "has 8"),
        (2, [-1, 0], "has -1"),
    ],
)
def test_mistakes_are_explained(teacher, n, labels, message):
    images = torch.zeros(n, 3, 8, 8, dtype=torch.uint8)
    with pytest.raises(UserError, match=message):
        teacher_accuracy(teacher, images, torch.tensor(labels, dtype=torch.long))


def test_it_says_how_far_it_is(teacher, labelled, capsys, monkeypatch):
    monkeypatch.setattr("ddoq.console.PAUSE", 0.0)
    split_accuracies(teacher, TensorSplit(*labelled), 50)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" images")[0] for line in lines] == [
        f"teacher convnet2-w8: accuracy: {done} of 101" for done in (50, 100)
    ]


def test_logits_that_are_not_finite_are_no_guesses(teacher, labelled):
    teacher.network.register_forward_hook(lambda *args: args[-1] * float("nan"))
    with pytest.raises(UserError, match=r"teacher convnet2-w8 gives logits that are not finite"):
        split_accuracies(teacher, TensorSplit(*labelled))
