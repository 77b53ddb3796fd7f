import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from baselines.sre2l.augmentation import Augmentation, draw_augmentations
from baselines.sre2l.recover import (
    batch_norms,
    collect_gaps,
    open_objective,
    optimise,
    recover,
    statistics_gap,
)
from ddoq.finite import LossWatch

LOW, HIGH = torch.tensor([-1.0, -2.0, -0.5]), torch.tensor([1.0, 0.5, 3.0])
PLAIN = Augmentation(0, 0, 8, 8, False, 0, 0)


def small_network(seed=0):
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 5),
    )
    for _ in range(20):  # gives the layers statistics worth matching
        network(torch.randn(16, 3, 8, 8) * 0.3)
    return network.eval()


def start(n=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, 8, 8, generator=generator), torch.arange(n) % 5


def steps(n, **overrides):
    settings = {"crop_scale": (0.5, 1.0), "flip": True, "jitter": 2} | overrides
    return draw_augmentations(n, 8, generator=torch.Generator().manual_seed(0), **settings)


def run(network=None, count=30, augmentations=None, **overrides):
    images, labels = start()
    settings = {"low": LOW, "high": HIGH, "lr": 0.1, "r_bn": 0.1} | overrides
    return recover(
        network or small_network(), images, labels, augmentations or steps(count), **settings
    )


def train_mode_gap(network, images):
    """What batch norms themselves remember of one batch, in training mode with momentum 1."""
    probe = copy.deepcopy(network)
    gaps = []

    def check(layer, args, _):
        mean, var = args[0].mean((0, 2, 3)), None
        twin = nn.BatchNorm2d(layer.num_features, momentum=1.0).train()
        twin(args[0])
        n = args[0].numel() / layer.num_features
        mean, var = (
            twin.running_mean,
            twin.running_var * (n - 1) / n,
        )  # it remembers the unbiased one
        gaps.append((var - layer.running_var).norm() + (mean - layer.running_mean).norm())

    for layer in probe.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.register_forward_hook(check)
    with torch.no_grad():
        probe(images)
    return gaps


def test_gaps_agree_with_batch_norms_own_statistics():
    network, (images, _) = small_network(), start()
    expected = train_mode_gap(network, images)
    with torch.no_grad(), collect_gaps(network, first_multiplier=10.0) as gaps:
        network(images)
    torch.testing.assert_close(gaps, [10 * expected[0], expected[1]], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(7, 4), (7, 4, 5), (7, 4, 5, 3)])
def test_gap_of_any_rank_against_loops(shape):
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    mean, var = torch.rand(4), torch.rand(4)
    channels = [inputs.select(1, c).flatten().double() for c in range(4)]
    var_gap = sum(
        (float(z.var(correction=0)) - float(v)) ** 2 for z, v in zip(channels, var, strict=True)
    )
    mean_gap = sum((float(z.mean()) - float(m)) ** 2 for z, m in zip(channels, mean, strict=True))
    assert float(statistics_gap(inputs, mean, var)) == pytest.approx(
        var_gap**0.5 + mean_gap**0.5, rel=1e-4
    )


def test_gap_is_zero_for_its_own_statistics():
    inputs = torch.randn(50, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    var, mean = torch.var_mean(inputs, (0, 2, 3), correction=0)
    assert float(statistics_gap(inputs, mean, var)) < 1e-6


def test_gap_of_half_precision_inputs_is_float32():
    gap = statistics_gap(torch.ones(4, 2, dtype=torch.bfloat16), torch.zeros(2), torch.zeros(2))
    assert gap.dtype == torch.float32


def test_hooks_are_removed_even_after_an_error():
    network = small_network()
    with pytest.raises(RuntimeError), collect_gaps(network):
        network(torch.zeros(1, 7, 8, 8))
    run(network)
    assert all(not layer._forward_pre_hooks for layer in network.modules())


def test_layers_without_statistics_are_left_out():
    network = nn.Sequential(
        nn.BatchNorm2d(3, track_running_stats=False), nn.GroupNorm(1, 3), nn.BatchNorm2d(3)
    )
    assert batch_norms(network) == [network[2]]


def test_first_iteration_reports_the_objective():
    network, (images, labels) = small_network(), start()
    outcome = run(network, augmentations=[PLAIN])
    expected = train_mode_gap(network, images)
    cross_entropy = F.cross_entropy(network(images), labels)
    assert outcome.cross_entropy[0] == pytest.approx(cross_entropy.item(), rel=1e-5)
    assert outcome.bn_loss[0] == pytest.approx(float(10 * expected[0] + expected[1]), rel=1e-4)
    assert outcome.cross_entropy[0] == outcome.cross_entropy[1]


def test_steps_are_adam_on_the_stated_loss():
    network, (images, labels) = small_network(), start()
    pixels, count = images.clone().requires_grad_(), 4
    optimizer = torch.optim.Adam([pixels], betas=(0.5, 0.9), eps=1e-8)
    for step in range(count):
        optimizer.param_groups[0]["lr"] = 0.05 * (1 + math.cos(math.pi * step / count))
        optimizer.zero_grad()
        with collect_gaps(network, 10.0) as gaps:
            loss = F.cross_entropy(network(pixels), labels)
        (loss + 0.1 * sum(gaps)).backward()
        optimizer.step()
        for channel in range(3):
            pixels.data[:, channel].clamp_(LOW[channel], HIGH[channel])
    found = run(network, augmentations=[PLAIN] * count).images
    torch.testing.assert_close(found, pixels.detach(), rtol=1e-4, atol=1e-5)


def test_network_is_unchanged_bit_for_bit():
    network = small_network()
    before = copy.deepcopy(network.state_dict())
    run(network)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert not network.training


def test_only_images_get_gradients():
    network = small_network()
    assert all(p.requires_grad for p in network.parameters())
    run(network)
    assert all(p.grad is None for p in network.parameters())


def test_start_is_left_as_it_is_and_result_is_detached():
    images, labels = start()
    kept = images.clone()
    outcome = recover(
        small_network(), images, labels, steps(3), low=LOW, high=HIGH, lr=0.1, r_bn=0.1
    )
    assert torch.equal(images, kept)
    assert not outcome.images.requires_grad


def test_pixels_stay_in_each_channels_range():
    images = run(lr=1.0).images
    for channel in range(3):
        values = images[:, channel]
        assert (
            values.min() == LOW[channel]
        )  # the bounds are reached, so clamping is what holds them
        assert values.max() == HIGH[channel]


def test_both_terms_fall():
    outcome = run(augmentations=[PLAIN] * 100, r_bn=0.1)
    assert outcome.cross_entropy[1] < 0.7 * outcome.cross_entropy[0]
    assert outcome.bn_loss[1] < 0.1 * outcome.bn_loss[0]


def test_weight_trades_statistics_for_cross_entropy():
    weak, strong = run(count=60, r_bn=0.0), run(count=60, r_bn=10.0)
    assert strong.bn_loss[1] < weak.bn_loss[1]
    assert weak.cross_entropy[1] < strong.cross_entropy[1]


def test_learning_rate_falls_along_a_cosine_without_warm_up(monkeypatch):
    seen = []
    step = torch.optim.Adam.step

    def spy(self, *args, **kwargs):
        seen.append(self.param_groups[0]["lr"])
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.Adam, "step", spy)
    run(count=10, lr=0.4)
    expected = 0.2 * (1 + torch.cos(torch.pi * torch.arange(10) / 10))
    torch.testing.assert_close(torch.tensor(seen), expected)


def test_same_input_same_bits():
    assert torch.equal(run().images, run().images)


def test_result_depends_on_the_whole_batch():
    images, labels = start()
    arguments = {"low": LOW, "high": HIGH, "lr": 0.1, "r_bn": 1.0}
    whole = recover(small_network(), images, labels, steps(10), **arguments).images
    part = recover(small_network(), images[:2], labels[:2], steps(10), **arguments).images
    assert not torch.allclose(whole[:2], part)


@pytest.mark.parametrize(
    ("network", "augmentations", "words"),
    [
        (small_network().train(), steps(1), "eval mode"),
        (nn.Sequential(nn.Flatten(), nn.Linear(192, 5)).eval(), steps(1), "batch normalisation"),
        (small_network(), [], "at least one"),
    ],
)
def test_wrong_input(network, augmentations, words):
    images, labels = start()
    with pytest.raises(ValueError, match=words):
        recover(network, images, labels, augmentations, low=LOW, high=HIGH, lr=0.1, r_bn=0.1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_agrees_with_cpu():
    images, labels = start()
    network = small_network()
    arguments = {"lr": 0.05, "r_bn": 0.1}
    here = recover(network, images, labels, steps(3), low=LOW, high=HIGH, **arguments)
    there = recover(
        network.cuda(),
        images.cuda(),
        labels.cuda(),
        steps(3),
        low=LOW.cuda(),
        high=HIGH.cuda(),
        **arguments,
    )
    assert here.bn_loss[0] == pytest.approx(there.bn_loss[0], rel=1e-2)
    assert (here.images - there.images.cpu()).abs().mean() < 0.02


@pytest.mark.parametrize("sizes", [(3, 3, 3), (4, 3, 2), (9,)])
@pytest.mark.parametrize("shape", [(9, 4), (9, 4, 5, 3)])
def test_gaps_of_groups_are_those_of_each_alone(sizes, shape):
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    mean, var = torch.rand(4), torch.rand(4)
    found = statistics_gap(inputs, mean, var, sizes)
    alone = [statistics_gap(part, mean, var) for part in inputs.split(list(sizes))]
    torch.testing.assert_close(found, torch.stack(alone))


def test_gaps_of_groups_in_channels_last():
    inputs = torch.randn(6, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    mean, var = torch.rand(4), torch.rand(4)
    last = inputs.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(
        statistics_gap(last, mean, var, (3, 3)), statistics_gap(inputs, mean, var, (3, 3))
    )


@pytest.mark.parametrize("sizes", [(5, 5, 5), (5, 4, 2)])
def test_groups_together_go_where_each_goes_alone(sizes):
    network, bounds = small_network(), {"low": LOW, "high": HIGH, "lr": 0.02, "r_bn": 0.1}
    parts = [start(n, seed=i) for i, n in enumerate(sizes)]
    plans = [
        draw_augmentations(
            15,
            8,
            crop_scale=(0.5, 1.0),
            flip=True,
            jitter=2,
            generator=torch.Generator().manual_seed(i),
        )
        for i in range(len(sizes))
    ]
    alone = [
        recover(network, *part, plan, **bounds) for part, plan in zip(parts, plans, strict=True)
    ]
    images, labels = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    together = recover(network, images, labels, plans, **bounds, sizes=sizes)
    expected = torch.cat([one.images for one in alone])
    assert (together.images - expected).abs().max() < 1e-3
    for name in ("cross_entropy", "bn_loss"):
        for end in (0, 1):
            mean = sum(getattr(one, name)[end] * n for one, n in zip(alone, sizes, strict=True))
            assert getattr(together, name)[end] == pytest.approx(mean / sum(sizes), rel=1e-3)
    # The test above could not fail if groups did not matter.
    mixed = recover(network, images, labels, plans[0], **bounds).images
    assert (mixed - expected).abs().max() > 0.05


def test_loop_reads_nothing_from_the_device_but_all_losses_at_once(monkeypatch):
    """Tensors without values cannot be read: on them the loop runs, and reading its outcome does not."""
    looks = []
    monkeypatch.setattr(LossWatch, "first_bad", lambda self: looks.append(len(self._losses)))
    network, (images, labels) = small_network().to("meta"), start()
    on_meta = [tensor.to("meta") for tensor in (images, labels)]
    bounds = {"low": LOW.to("meta"), "high": HIGH.to("meta"), "lr": 0.1, "r_bn": 0.1}
    with open_objective(network, 10.0) as objective:
        pixels, _, last = optimise(objective, *on_meta, [steps(5)], **bounds)
    assert pixels.is_meta
    assert looks == [5]
    with pytest.raises((RuntimeError, NotImplementedError)):
        float(last[0])


def test_wrong_groups():
    images, labels = start()
    bounds = {"low": LOW, "high": HIGH, "lr": 0.1, "r_bn": 0.1}
    with pytest.raises(ValueError, match=r"Groups of \[3, 3\] images do not make up 5"):
        recover(small_network(), images, labels, [steps(1)] * 2, **bounds, sizes=(3, 3))
    with pytest.raises(ValueError, match="own augmentations"):
        recover(small_network(), images, labels, [steps(1)], **bounds, sizes=(3, 2))
    with pytest.raises(ValueError, match="own augmentations"):
        recover(small_network(), images, labels, [steps(1), steps(2)], **bounds, sizes=(3, 2))
