"""What is kept of a label, and what it is worth when it is read back."""

import math

import pytest
import torch

from ddoq.errors import UserError
from ddoq.labels.compact import check_top_k, compress, expand, index_dtype, label_bytes, shapes


def random_logits(n: int, num_classes: int) -> torch.Tensor:
    return 4 * torch.randn(n, num_classes, generator=torch.Generator().manual_seed(0))


def test_all_classes_come_back_to_half_precision():
    logits = random_logits(50, 30)
    kept = compress(logits)
    assert {name: part.dtype for name, part in kept.items()} == {"logits": torch.float16}
    back = expand(kept, 30)
    assert back.dtype == torch.float32
    torch.testing.assert_close(back, logits, rtol=2**-11, atol=1e-6)


def test_marginal_smoothing_by_hand():
    # Probabilities 1/2, 1/4, 1/8, 1/8 at temperature 1: two are kept, a quarter is spread over two.
    logits = torch.tensor([[8.0, 1.0, 4.0, 3.0]]).log()
    kept = compress(logits, top_k=2)
    assert kept["classes"].tolist() == [[0, 2]]
    assert torch.allclose(kept["values"].float().exp(), torch.tensor([[8.0, 4.0]]), rtol=1e-3)
    assert math.isclose(kept["rest"].exp().item(), 2.0, rel_tol=1e-3)  # (1 + 3) / 2
    told = expand(kept, 4).softmax(1)
    torch.testing.assert_close(told, torch.tensor([[8, 2, 4, 2]]) / 16, rtol=2e-3, atol=0)


@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
@pytest.mark.parametrize("top_k", [1, 5, 299])
def test_kept_classes_keep_their_probability_and_the_others_share_what_is_left(top_k, temperature):
    logits = random_logits(40, 300)
    told = (
        expand(compress(logits, top_k=top_k, temperature=temperature), 300) / temperature
    ).softmax(1)
    truth = (logits / temperature).softmax(1)
    top = truth.topk(top_k, dim=1)
    torch.testing.assert_close(told.gather(1, top.indices), top.values, rtol=1e-2, atol=1e-5)
    others = told.scatter(1, top.indices, math.nan)
    left = (1 - top.values.sum(1)) / (300 - top_k)
    for row, share in zip(others, left, strict=True):
        spread = row[~row.isnan()]
        assert spread.min() == spread.max()
        torch.testing.assert_close(spread[0], share, rtol=1e-2, atol=1e-5)


def test_the_rest_belongs_to_the_temperature():
    logits = random_logits(3, 20)
    cold, warm = (compress(logits, top_k=2, temperature=t)["rest"] for t in (1.0, 20.0))
    assert bool(
        (cold > warm).all()
    )  # the mean of exponentials at T = 1, nearly the mean logit at T = 20


@pytest.mark.parametrize(
    ("num_classes", "dtype"),
    [
        (2, torch.uint8),
        (256, torch.uint8),
        (257, torch.int16),
        (32768, torch.int16),
        (32769, torch.int32),
    ],
)
def test_the_smallest_index_that_reaches_the_last_class(num_classes, dtype):
    assert index_dtype(num_classes) == dtype
    logits = torch.zeros(1, num_classes)
    logits[0, -1] = 9.0
    kept = compress(logits, top_k=1)
    assert kept["classes"].dtype == dtype
    assert expand(kept, num_classes).argmax().item() == num_classes - 1


@pytest.mark.parametrize(("num_classes", "top_k"), [(10, 0), (10, 3), (300, 0), (300, 7)])
def test_bytes_and_shapes_are_those_of_the_tensors(num_classes, top_k):
    kept = compress(random_logits(6, num_classes), top_k=top_k)
    assert sum(part.nbytes for part in kept.values()) == label_bytes(6, num_classes, top_k)
    real = {name: (tuple(part.shape), part.dtype) for name, part in kept.items()}
    assert real == shapes(6, num_classes, top_k)


def test_published_sizes():
    # 300 epochs of ImageNet-1K at 10 images per class: LPLD (Xiao and He, 2024) names 5.67 GB for its files.
    assert 300 * label_bytes(10_000, 1000) == 6_000_000_000


def test_rows_can_be_taken_in_any_order():
    kept = compress(random_logits(8, 300), top_k=4)
    positions = torch.tensor([5, 0, 5])
    rows = expand({name: part[positions] for name, part in kept.items()}, 300)
    assert torch.equal(rows, expand(kept, 300)[positions])


@pytest.mark.parametrize("top_k", [-1, 10, 11])
def test_as_many_classes_as_there_are_cannot_be_the_likeliest(top_k):
    with pytest.raises(UserError, match="must be 0, which stores all classes, or below the 10"):
        check_top_k(top_k, 10)
    with pytest.raises(UserError, match="label_top_k"):
        compress(random_logits(2, 10), top_k=top_k)


@pytest.mark.parametrize("wrong", [1e5, math.inf, math.nan])
@pytest.mark.parametrize("top_k", [0, 1])
def test_logits_that_half_precision_cannot_hold_are_refused(wrong, top_k):
    logits = random_logits(2, 10)
    logits[1, 3] = wrong
    with pytest.raises(UserError, match=r"float16 .* or `labels: online`"):
        compress(logits, top_k=top_k)
