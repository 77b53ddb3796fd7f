import math

import pytest
import torch

from ddoq.errors import UserError
from ddoq.quantization.codebook import check_points, make_codebook


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_float_types_become_float32(dtype):
    points = check_points(torch.ones(3, 2, dtype=dtype, requires_grad=True))
    assert points.dtype == torch.float32
    assert not points.requires_grad


@pytest.mark.parametrize(
    ("points", "words"),
    [
        (torch.ones(3, 2, dtype=torch.int64), r"not torch\.int64"),
        (torch.ones(3, 2, dtype=torch.complex64), "floating-point"),
        ([[1.0]], "not list"),
        (torch.ones(3), r"flatten\(1\)"),
        (torch.ones(3, 2, 2), r"\(3, 2, 2\)"),
        (torch.ones(0, 2), r"\(0, 2\)"),
        (torch.ones(2, 0), r"\(2, 0\)"),
        (torch.tensor([[1.0], [math.nan], [math.nan]]), "2 of 3 points"),
        (torch.tensor([[1.0], [-math.inf]]), "1 of 2 points"),
        (torch.tensor([[1e200, 0.0]], dtype=torch.float64), "1 of 1 points"),
    ],
)
def test_unusable_points_are_refused(points, words):
    with pytest.raises(UserError, match=words):
        check_points(points)


def test_counts_and_distortion(cloud):
    points, centroids = cloud(300, 4), cloud(9, 4, seed=1)
    book = make_codebook(points, centroids)
    exact = torch.cdist(points.double(), centroids.double()).square().min(1)
    assert torch.equal(book.counts, torch.bincount(exact.indices, minlength=9))
    assert book.counts.dtype == torch.int64
    assert book.distortion == pytest.approx(float(exact.values.mean()), rel=1e-10)


def test_distortion_does_not_cancel():
    # The matrix-product formula in float32 would leave nothing of a spread of 0.5 at 2**20.
    points = torch.tensor([[2.0**20], [2.0**20 + 0.5]])
    book = make_codebook(points, torch.tensor([[2.0**20 + 0.25]]))
    assert book.distortion == 0.0625
