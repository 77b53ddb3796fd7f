"""Students as the papers build them, against plain re-statements of what their scripts ask for."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import StochasticDepth

from ddoq.errors import UserError
from ddoq.networks import build_network, count_parameters


def seeded(name, num_classes=10, image_size=32, **kwargs):
    torch.manual_seed(0)
    return build_network(name, num_classes, image_size, **kwargs)


def last_norms(network):
    """List the last norm of every residual block of a ResNet."""
    blocks = [block for n in range(1, 5) for block in getattr(network, f"layer{n}")]
    return [block.bn3 if hasattr(block, "bn3") else block.bn2 for block in blocks]


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_the_last_norm_of_a_block_starts_at_one_not_at_zero(name):
    assert all(norm.weight.eq(1).all() for norm in last_norms(seeded(f"torchvision/{name}")))
    assert all(norm.weight.eq(0).all() for norm in last_norms(seeded(f"timm/{name}")))


@pytest.mark.parametrize(
    ("name", "dropout", "depth", "parameters"),  # of the papers of these networks, at 1000 classes
    [
        ("resnet18", [], None, 11_689_512),
        ("resnet50", [], None, 25_557_032),
        ("resnet101", [], None, 44_549_160),
        ("mobilenet_v2", [0.2], None, 3_504_872),
        ("efficientnet_b0", [0.2], 0.2, 5_288_548),
        ("swin_t", [0.0], 0.2, 28_288_354),
    ],
)
def test_regularisation_and_parameters(name, dropout, depth, parameters):
    with torch.device("meta"):
        network = build_network(f"torchvision/{name}", 1000, 224)
    assert network.training
    assert count_parameters(network) == parameters
    rates = {layer.p for layer in network.modules() if isinstance(layer, nn.Dropout)}
    assert sorted(rates) == dropout
    drops = [layer.p for layer in network.modules() if isinstance(layer, StochasticDepth)]
    if depth is None:
        assert drops == []
        return
    # It rises from 0 by equal steps: up to the rate in Swin's last block, to one step below in EfficientNet.
    deepest = depth if name == "swin_t" else depth * (len(drops) - 1) / len(drops)
    blocks = sorted(set(drops))
    assert (blocks[0], blocks[-1]) == (0, pytest.approx(deepest))
    torch.testing.assert_close(torch.tensor(blocks), torch.linspace(0, deepest, len(blocks)))


@pytest.mark.parametrize("name", ["resnet18", "resnet18-in"])
def test_convolutions_start_as_he_et_al(name):
    """Normal with variance 2 / (k * k * out); the last layer uniform within 1 / sqrt(inputs)."""
    network = seeded(f"torchvision/{name}", image_size=64)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d) and layer.weight.numel() > 30_000:
            expected = math.sqrt(2 / (layer.kernel_size[0] ** 2 * layer.out_channels))
            assert float(layer.weight.detach().std()) == pytest.approx(expected, rel=0.02)
            assert float(layer.weight.detach().mean()) == pytest.approx(0, abs=0.02 * expected)
    bound = 1 / math.sqrt(512)
    assert network.fc.weight.abs().max() <= bound
    assert float(network.fc.weight.detach().std()) == pytest.approx(bound / math.sqrt(3), rel=0.03)


def instance_norm(maps, weights, name):
    """Normalise every channel of every image, then scale and shift."""
    mean, variance = maps.mean((2, 3), keepdim=True), maps.var((2, 3), correction=0, keepdim=True)
    scale, shift = (weights[f"{name}.{key}"][:, None, None] for key in ("weight", "bias"))
    return (maps - mean) / (variance + 1e-5).sqrt() * scale + shift


def plain_resnet18(images, weights):
    """Restate IDC's ResNet-18 for images above 128 pixels: 7 x 7 of stride 2, max-pooling, 4 x 2 basic blocks."""
    maps = F.conv2d(images, weights["conv1.weight"], stride=2, padding=3)
    maps = F.max_pool2d(F.relu(instance_norm(maps, weights, "bn1")), 3, stride=2, padding=1)
    for stage in range(1, 5):
        for place in range(2):
            block, stride = f"layer{stage}.{place}", 2 if stage > 1 and place == 0 else 1
            inner = F.conv2d(maps, weights[f"{block}.conv1.weight"], stride=stride, padding=1)
            inner = F.relu(instance_norm(inner, weights, f"{block}.bn1"))
            inner = F.conv2d(inner, weights[f"{block}.conv2.weight"], padding=1)
            inner = instance_norm(inner, weights, f"{block}.bn2")
            if stride == 2:
                maps = F.conv2d(maps, weights[f"{block}.downsample.0.weight"], stride=2)
                maps = instance_norm(maps, weights, f"{block}.downsample.1")
            maps = F.relu(maps + inner)
    return maps.mean((2, 3)) @ weights["fc.weight"].T + weights["fc.bias"]


def test_the_resnet_of_idc_has_instance_norm():
    network = seeded("torchvision/resnet18-in", image_size=96).double()
    assert count_parameters(network) == 11_181_642  # as with batch norm
    assert list(network.buffers()) == []  # no running statistics
    weights = {
        key: value + 0.1 * torch.rand_like(value) for key, value in network.state_dict().items()
    }
    network.load_state_dict(weights)
    images = torch.rand(2, 3, 96, 96, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(network(images), plain_resnet18(images, weights))


@pytest.mark.parametrize("name", ["resnet18", "resnet101"])
def test_the_small_stem_is_that_of_sre2l_and_rded(name):
    """A plain 3 x 3 convolution of stride 1 without bias in the place of the first one, and no max-pooling."""
    network = seeded(f"torchvision/{name}", 100, stem="small")
    conv = network.conv1
    assert (conv.kernel_size, conv.stride, conv.padding, conv.bias) == (
        (3, 3),
        (1, 1),
        (1, 1),
        None,
    )
    assert isinstance(network.maxpool, nn.Identity)
    bound = 1 / math.sqrt(3 * 3 * 3)  # PyTorch's own initialisation: uniform within it
    assert conv.weight.abs().max() <= bound
    assert float(conv.weight.detach().std()) == pytest.approx(bound / math.sqrt(3), rel=0.05)
    sides = []
    network.layer1.register_forward_pre_hook(lambda _, inputs: sides.append(inputs[0].shape[-1]))
    network(torch.zeros(2, 3, 32, 32))
    assert sides == [32]


@pytest.mark.parametrize("name", ["mobilenet_v2", "efficientnet_b0"])
def test_small_stems_of_other_families_keep_the_resolution(name):
    sides = []
    network = seeded(f"torchvision/{name}", stem="small").eval()
    network.features[0].register_forward_hook(lambda _, __, maps: sides.append(maps.shape[-1]))
    network(torch.zeros(1, 3, 32, 32))
    assert sides == [32]


# RDED by dataset: CIFAR, Tiny-ImageNet, Imagenette and ImageWoof, ImageNet-100 (the last three at 128 pixels).
@pytest.mark.parametrize(
    ("depth", "side", "classes"), [(3, 32, 10), (4, 64, 200), (5, 128, 10), (6, 128, 100)]
)
def test_convnets_of_rded(depth, side, classes):
    """Blocks of 128 channels: 3 x 3 convolution, batch norm, ReLU, average pooling by 2; then one linear layer."""
    network = seeded(f"convnet{depth}-bn", classes, side)
    inputs = [3, *[128] * (depth - 1)]
    blocks = sum(128 * (9 * channels + 1) + 2 * 128 for channels in inputs)
    head = 128 * (side >> depth) ** 2
    assert count_parameters(network) == blocks + (head + 1) * classes
    weights, images = network.state_dict(), torch.rand(2, 3, side, side)
    tensors = list(network.parameters())
    maps = images
    for block in range(depth):
        kernel, bias, scale, shift = tensors[4 * block : 4 * block + 4]
        maps = F.conv2d(maps, kernel, bias, padding=1)
        mean, variance = (
            maps.mean((0, 2, 3), keepdim=True),
            maps.var((0, 2, 3), correction=0, keepdim=True),
        )
        maps = (maps - mean) / (variance + 1e-5).sqrt() * scale[:, None, None] + shift[
            :, None, None
        ]
        maps = F.avg_pool2d(F.relu(maps), 2)
    assert any("running_mean" in key for key in weights)
    expected = maps.flatten(1) @ tensors[-2].T + tensors[-1]
    torch.testing.assert_close(network(images), expected, rtol=1e-3, atol=1e-4)


def test_networks_with_further_heads_give_logits_in_training():
    network = seeded("torchvision/googlenet", 7, 64, init_weights=False)
    assert network(torch.zeros(2, 3, 64, 64)).shape == (2, 7)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("torchvision/resnet_18", {}, "no classifier called 'resnet_18'.*resnet18"),
        ("torchvision/vgg11-in", {}, "no classifier called 'vgg11-in'"),
        ("tv/resnet18", {}, "Unknown library 'tv'"),
        (
            "torchvision/resnet18",
            {"depth": 3},
            "torchvision/resnet18 cannot be built with .*'depth'",
        ),
        ("torchvision/resnet18", {"weights": "DEFAULT"}, "weights cannot be set here"),
        (
            "torchvision/vit_b_16",
            {},
            "torchvision/vit_b_16 cannot be built for images of 32 pixels",
        ),
        (
            "torchvision/vgg11",
            {"stem": "small"},
            "stem: small exists for .*not for torchvision/vgg11",
        ),
    ],
)
def test_mistakes_are_named(name, options, message):
    with pytest.raises(UserError, match=message):
        build_network(name, 10, 32, **options)
