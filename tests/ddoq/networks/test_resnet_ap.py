import pytest
import torch
from torch import nn

from ddoq.networks import build_network, count_parameters
from ddoq.networks.resnet_ap import ResNetAPShape, parse_resnet_ap


def closed_form(num_classes: int, stem_kernel: int) -> int:
    """ResNetAP-10: convolutions without bias, scale and shift of norms, shortcuts where the width changes."""
    total = 3 * 64 * stem_kernel**2 + 2 * 64
    for channels, width in ((64, 64), (64, 128), (128, 256), (256, 512)):
        total += 9 * channels * width + 9 * width**2 + 4 * width
        total += channels * width + 2 * width if channels != width else 0
    return total + 513 * num_classes


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnetap10", ResNetAPShape(10, "in")),
        ("resnetap18-bn", ResNetAPShape(18, "bn")),
        ("resnetap10-in", ResNetAPShape(10, "in")),
    ],
)
def test_names_say_depth_and_norm(name, expected):
    assert parse_resnet_ap(name) == expected


@pytest.mark.parametrize(("image_size", "kernel"), [(32, 3), (64, 3), (96, 3), (128, 3), (224, 7)])
def test_parameters(image_size, kernel):
    network = build_network("resnetap10", 7, image_size)
    assert count_parameters(network) == closed_form(7, kernel)
    with torch.no_grad():
        assert network(torch.randn(2, 3, image_size, image_size)).shape == (2, 7)


def test_with_batch_norm_and_18_layers_it_is_as_large_as_resnet18():
    # Pooling has no weights, so that only the strides differ.
    timms = build_network("resnet18", 10, 32, stem="small")
    assert count_parameters(build_network("resnetap18-bn", 10, 32)) == count_parameters(timms)


@pytest.mark.parametrize(
    ("image_size", "side"), [(32, 32), (64, 64), (96, 48), (128, 64), (224, 56)]
)
def test_stem_by_size(image_size, side):
    network = build_network("resnetap10", 3, image_size)
    with torch.no_grad():
        maps = network.stem(torch.randn(1, 3, image_size, image_size))
    assert maps.shape == (1, 64, side, side)


def test_maps_shrink_by_average_pooling_alone():
    network = build_network("resnetap10", 3, 32)
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == 9 + 3  # ten layers less the linear one, and three shortcuts
    assert {m.stride for m in convolutions} == {(1, 1)}
    maps, sides = network.stem(torch.randn(1, 3, 32, 32)), []
    for block in network.blocks:
        maps = block(maps)
        sides.append(maps.shape[-1])
    assert sides == [32, 16, 8, 4]


def test_a_block_equals_its_formula():
    torch.manual_seed(0)
    block = build_network("resnetap10", 3, 32).blocks[1]
    maps = torch.randn(2, 64, 8, 8)
    conv1, norm1, _, _, conv2, norm2 = block.residual
    conv3, _, norm3 = block.shortcut
    # timm's instance norm is torch's; the weights are 1 and 0 at the start.
    instance = nn.functional.instance_norm
    half = nn.functional.avg_pool2d(instance(conv1(maps)).relu(), 2)
    whole = instance(conv2(half)) + instance(nn.functional.avg_pool2d(conv3(maps), 2))
    torch.testing.assert_close(block(maps), whole.relu(), atol=1e-5, rtol=1e-4)
    assert all(isinstance(norm, nn.GroupNorm) for norm in (norm1, norm2, norm3))


def test_initial_weights_are_he():
    torch.manual_seed(0)
    weight = build_network("resnetap10", 3, 32).blocks[3].residual[4].weight
    assert weight.std().item() == pytest.approx((2 / (512 * 9)) ** 0.5, rel=0.02)


def test_instance_norm_does_not_depend_on_the_batch():
    images = torch.randn(4, 3, 16, 16)
    for name, same in (("resnetap10", True), ("resnetap10-bn", False)):
        network = build_network(name, 3, 16).train()
        together, apart = network(images)[:2], network(images[:2])
        assert torch.allclose(together, apart, atol=1e-4) is same
