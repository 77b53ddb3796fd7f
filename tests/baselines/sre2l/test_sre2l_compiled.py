import copy

import pytest
import torch
from torch import nn

from baselines.sre2l.augmentation import draw_augmentations
from baselines.sre2l.compiled import CompiledObjective
from baselines.sre2l.recover import open_objective, recover


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3, stride=2),
        nn.BatchNorm2d(8),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    )
    for _ in range(10):
        network(torch.randn(16, 3, 8, 8) * 0.3)
    return network.eval().requires_grad_(False)


def batch(n=5):
    return torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(n) % 5


# "aot_eager" traces the whole graph forwards and backwards, and runs it without a compiler of C++ or Triton.
@pytest.mark.parametrize("sizes", [None, (3, 2), (1, 4), (5,)])
def test_whole_graph_gives_the_same_terms_and_gradients(network, sizes):
    images, labels = batch()
    found = CompiledObjective(network, 10.0, sizes, backend="aot_eager")
    with open_objective(network, 10.0, sizes) as expected:
        for objective in (expected, found):
            pixels = images.clone().requires_grad_()
            terms = objective(pixels, labels)
            (gradient,) = torch.autograd.grad(terms[0].sum() + 0.3 * terms[1].sum(), pixels)
            if objective is expected:
                kept = (*terms, gradient)
            else:
                torch.testing.assert_close((*terms, gradient), kept, rtol=1e-4, atol=1e-5)


def test_recovery_goes_the_same_way(network):
    images, labels = batch()
    steps = draw_augmentations(
        10,
        8,
        crop_scale=(0.3, 1.0),
        flip=True,
        jitter=2,
        generator=torch.Generator().manual_seed(0),
    )
    bounds = {"low": -torch.ones(3), "high": torch.ones(3), "lr": 0.05, "r_bn": 0.1}
    compiled = CompiledObjective(network, 10.0, backend="aot_eager")
    found = recover(network, images, labels, steps, **bounds, objective=compiled)
    expected = recover(network, images, labels, steps, **bounds)
    torch.testing.assert_close(found.images, expected.images, rtol=1e-3, atol=1e-3)
    assert found.bn_loss == pytest.approx(expected.bn_loss, rel=1e-3)


def test_one_compilation_serves_many_batches(network):
    torch._dynamo.reset()
    graphs = []

    def count(graph, inputs):
        graphs.append(graph)
        return graph.forward

    objective = CompiledObjective(network, 10.0, backend=count)
    images, labels = batch()
    steps = draw_augmentations(
        3,
        8,
        crop_scale=(0.3, 1.0),
        flip=True,
        jitter=2,
        generator=torch.Generator().manual_seed(1),
    )
    for _ in range(4):
        recover(
            network,
            images,
            labels,
            steps,
            low=-torch.ones(3),
            high=torch.ones(3),
            lr=0.1,
            r_bn=0.1,
            objective=objective,
        )
    assert len(graphs) == 1


def test_network_itself_is_neither_hooked_nor_changed(network):
    before = copy.deepcopy(network.state_dict())
    images, labels = batch()
    CompiledObjective(network, 10.0, backend="aot_eager")(images, labels)
    assert all(not layer._forward_pre_hooks for layer in network.modules())
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
