from types import SimpleNamespace

import pytest
import torch

from benchmarks.students.student import Student
from ddoq.errors import UserError


@pytest.mark.parametrize(
    ("student", "label"),
    [
        (Student("resnet18"), "resnet18"),
        (Student("resnet18", name="R18"), "R18"),
        (Student("resnet18", stem="small"), "resnet18[stem=small]"),
        (Student("vit", lr=1e-4, kwargs={"b": 2, "a": 1}), "vit[lr=0.0001,a=1,b=2]"),
    ],
)
def test_label(student, label):
    assert student.label == label


def test_students_do_not_share_options():
    first, second = Student("a"), Student("b")
    first.kwargs["x"] = 1
    assert second.kwargs == {}


def test_learning_rate_must_be_positive():
    with pytest.raises(UserError, match="'convnet3': lr must be above 0"):
        Student("convnet3", lr=0.0)


def test_the_network_fits_the_dataset_and_normalises():
    data = SimpleNamespace(num_classes=4, image_size=16, mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.1))
    networks = []
    for _ in range(2):
        torch.manual_seed(3)
        networks.append(Student("convnet3").build(data).eval())
    images = torch.rand(2, 3, 16, 16)
    logits = networks[0](images)
    assert logits.shape == (2, 4)
    assert torch.equal(logits, networks[1](images))
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (data.mean, data.std))
    torch.testing.assert_close(logits, networks[0][1]((images - mean) / std))
