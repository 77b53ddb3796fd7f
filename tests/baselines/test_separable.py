import pytest
import torch
from torch.nn import functional as F

from baselines.dc import DC
from baselines.dm import DM
from ddoq.networks import draw_network
from ddoq.objectives.functional import sample_gradients
from ddoq.selection.sampling import Drawn, Sampler

SETTINGS = {"ipc": 2, "arch": "convnet2-w4", "iterations": 4, "batch_real": 6}


class Weighted(Sampler):
    """Draws some images twice, with weights that undo it."""

    def draw(self, count, size, generator):
        positions = super().draw(count, size, generator).positions
        return Drawn(
            torch.cat([positions, positions[:2]]),
            torch.tensor([2 / 3] * 2 + [4 / 3] * 4 + [2 / 3] * 2),
        )


@pytest.fixture(params=[DM, DC], ids=lambda kind: kind.method)
def attached(request, coloured_noise):
    def make(sampling=None, **changes):
        given = SETTINGS | ({"loops": (2, 1)} if request.param is DC else {}) | changes
        method = request.param(**given)
        method.sampling = sampling
        method.attach(coloured_noise())
        return method

    return make


def gap_of(method):
    if isinstance(method, DC):
        return lambda network, *pair: method._gap(network, *pair, label=1)
    from baselines.dm.distiller import mean_gap

    return mean_gap


def test_the_loss_is_one_of_the_mean_row(attached):
    method = attached()
    network = method.network(0)
    real, pixels = method.start(1)
    batch, shown = method.pair(real, pixels.images, 0, 1)
    rows = method.rows(network, batch, 1)
    assert len(rows) == 6
    assert not rows.requires_grad
    value = method.compare(network, shown, 1)(rows.mean(dim=0))
    expected = gap_of(method)(network, batch, shown)
    torch.testing.assert_close(value, expected)
    gradients = [
        torch.autograd.grad(loss, pixels.images, retain_graph=True)[0] for loss in (value, expected)
    ]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


def test_weights_count_in_the_mean(attached):
    plain, weighted = attached(), attached(lambda method, label: Weighted())
    losses = []
    for method in (plain, weighted):
        network = method.network(0)
        real, pixels = method.start(1)
        losses.append(method.loss_of(network, gap_of(method), real, pixels.images, 0, 1))
    torch.testing.assert_close(*losses)


def test_a_sampler_that_chooses_as_usual_changes_no_bit(attached):
    items = attached().work_items(attached().data)
    one, other = (
        torch.cat([s.images for s in method.distill_jointly(items)])
        for method in (attached(), attached(lambda method, label: Sampler()))
    )
    assert torch.equal(one, other)


def test_gradients_of_single_images_have_the_mean_of_the_batch():
    network = draw_network("convnet1-w4", 2, 8, seed=0)
    images, labels = torch.randn(5, 3, 8, 8), torch.tensor([0, 1, 1, 0, 1])
    rows = sample_gradients(network, images, labels)
    F.cross_entropy(network(images), labels).backward()
    expected = torch.cat([p.grad.flatten() for p in network.parameters()])
    torch.testing.assert_close(rows.mean(0), expected)
