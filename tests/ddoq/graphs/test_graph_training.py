import pytest
import torch
from killing import KilledError
from sklearn.metrics import roc_auc_score
from toy_graphs import random_graphs, small_motifs

from ddoq.finite import DivergedError
from ddoq.graphs.build import draw_graph_network
from ddoq.graphs.training import Training, answers, score
from ddoq.storage.checkpoints import Checkpoint


def training(graphs=None, **settings) -> Training:
    graphs = random_graphs(8) if graphs is None else graphs
    classes = int(graphs.labels.max()) + 1
    network = draw_graph_network("gcn", graphs.x.shape[1], classes, "test", seed=0, hidden=8)
    given = {"epochs": 6, "batch_size": 3, "lr": 0.01, "keys": (0, "order"), **settings}
    return Training(network, graphs, **given)


def test_areas_are_those_of_scikit_learn():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 2, (40,), generator=generator)
    logits = torch.randn(40, 2, generator=generator) + torch.stack([-labels, labels], 1) / 2
    expected = roc_auc_score(labels, logits.softmax(dim=1)[:, 1])
    assert 0.5 < expected < 1
    assert score(logits, labels, "roc-auc") == pytest.approx(expected, abs=1e-6)


def test_a_network_learns_motifs():
    data = small_motifs()
    learning = training(data.train, epochs=60, batch_size=64)
    before = score(answers(learning.network, data.train), data.train.labels, "accuracy")
    loss = learning.run(None, "test", "")
    assert loss < 0.5
    assert score(answers(learning.network, data.train), data.train.labels, "accuracy") > before


def test_answers_do_not_depend_on_batches():
    learning, graphs = training(), random_graphs(8)
    whole, parts = (answers(learning.network, graphs, size) for size in (8, 3))
    torch.testing.assert_close(whole, parts, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("batch_size", [3, 64])
def test_a_killed_training_ends_with_the_same_bits(tmp_path, batch_size):
    whole = training(batch_size=batch_size)
    loss = whole.run(None, "test", "")

    def stop(epoch: int) -> None:
        if epoch == 4:
            raise KilledError

    seen = []
    path = tmp_path / "training.checkpoint"
    killed = training(batch_size=batch_size, watch=stop)
    with pytest.raises(KilledError):
        killed.run(Checkpoint(path, "key", 0), "test", "")
    resumed = training(batch_size=batch_size, watch=seen.append)
    assert resumed.run(Checkpoint(path, "key", 0), "test", "") == loss
    assert seen == [4, 5]
    for left, right in zip(whole.network.parameters(), resumed.network.parameters(), strict=True):
        assert torch.equal(left, right)


def test_rates_fall_to_a_tenth_halfway():
    rates = []
    learning = training(
        epochs=5, watch=lambda _: rates.append(learning.optimizer.param_groups[0]["lr"])
    )
    learning.run(None, "test", "")
    assert rates == pytest.approx([0.01] * 2 + [0.001] * 3)


def test_losses_that_are_not_finite_end_it():
    with pytest.raises(DivergedError, match=r"test diverged.*Lower it\."):
        training(lr=1e30).run(None, "test", "Lower it.")
