import pytest
import torch

from ddoq.errors import UserError
from ddoq.labels.targets import KINDS, Targets, join_targets

SHARES = torch.tensor([[0.25, 0.75], [1.0, 0.0]])


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_takes_probabilities(kind):
    assert (len(Targets(SHARES, kind)), Targets(SHARES, kind).width) == (2, 2)


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        (torch.zeros(2, 2), "probabilities", "sum to 1"),
        (torch.tensor([[-0.5, 1.5]]), "probabilities", "at least 0"),
        (torch.zeros(2), "logits", "float32"),
        (torch.zeros(2, 2).double(), "logits", "float32"),
        (torch.zeros(0, 2), "logits", "float32"),
        (torch.tensor([[torch.nan, 1.0]]), "vectors", "finite"),
    ],
)
def test_values_that_contradict_the_kind(values, kind, message):
    with pytest.raises(UserError, match=message):
        Targets(values, kind)


def test_an_unknown_kind_is_named():
    with pytest.raises(UserError, match="probabilities, logits, vectors, not 'soft'"):
        Targets.read(SHARES, "soft")
    assert Targets.read(SHARES, "logits").kind == "logits"


def test_logits_give_the_targets_through_a_softmax():
    torch.testing.assert_close(Targets(SHARES, "probabilities").as_logits().softmax(1), SHARES)
    assert Targets(SHARES, "logits").as_logits() is SHARES
    with pytest.raises(UserError, match="no distribution"):
        Targets(SHARES, "vectors").as_logits()


def test_rows_and_joining():
    targets = Targets(SHARES, "probabilities")
    assert targets.rows(torch.tensor([1, 1, 0])).values.tolist() == [[1, 0], [1, 0], [0.25, 0.75]]
    assert torch.equal(join_targets([targets, targets]).values, torch.cat([SHARES, SHARES]))
    for other in (Targets(SHARES, "logits"), Targets(torch.ones(1, 3) / 3, "probabilities")):
        with pytest.raises(UserError, match="different kinds or lengths"):
            join_targets([targets, other])
