import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from toy_nodes import small_communities

from ddoq.errors import UserError
from ddoq.graphs import Communities


def test_degrees_and_homophily_are_those_asked_for():
    raw = Communities(per_class=200, degree=6.0, homophily=0.8).load()
    assert raw.edges.shape[1] / len(raw.labels) == pytest.approx(3, rel=0.1)
    same = raw.labels[raw.edges[0]] == raw.labels[raw.edges[1]]
    assert same.float().mean().item() == pytest.approx(0.8, abs=0.04)
    assert bool((raw.edges[0] < raw.edges[1]).all())


def test_features_alone_are_right_as_often_as_stated():
    data = Communities()
    data.setup()
    x, labels = data.train.x, data.load().labels
    linear = LinearDiscriminantAnalysis().fit(x, labels)
    assert linear.score(x, labels) == pytest.approx(0.55, abs=0.05)
    # One look at the neighbours tells much more.
    train = data.train
    means = torch.zeros_like(x).index_add(0, train.edges[0], x[train.edges[1]])
    both = (x + means) / (1 + torch.bincount(train.edges[0], minlength=len(x)))[:, None]
    assert LinearDiscriminantAnalysis().fit(both, labels).score(both, labels) > 0.75


def test_seeds_decide_the_graph():
    data, again, other = small_communities(), small_communities(), small_communities(seed=1)
    assert data.fingerprint == again.fingerprint != other.fingerprint
    assert data.fingerprint != small_communities(split_seed=1).fingerprint


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"communities": 1}, "data.communities must be a whole number from 2 on"),
        ({"per_class": 2}, "data.per_class must be a whole number from 3 on"),
        ({"columns": 3}, "data.columns must be a whole number from 4 on"),
        ({"degree": 0.0}, "data.degree must be above 0"),
        ({"homophily": 1.5}, "data.homophily"),
        ({"signal": -1.0}, "data.signal must be at least 0"),
        ({"per_class": 5, "degree": 8.0}, "lower it, or raise data.per_class"),
        ({"seed": -1}, "data.seed"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        Communities(**settings)
