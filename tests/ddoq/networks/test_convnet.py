import pytest
import torch
from torch import nn

from ddoq.errors import UserError
from ddoq.networks import build_network, count_parameters
from ddoq.networks.convnet import ConvNet, ConvNetShape, parse_convnet


def closed_form(depth: int, width: int, num_classes: int, image_size: int) -> int:
    """Weights and biases of convolutions, scale and shift of norms, and the linear layer."""
    convolutions = sum((3 if i == 0 else width) * width * 9 + width for i in range(depth))
    side = image_size // 2**depth
    return convolutions + 2 * width * depth + (width * side**2 + 1) * num_classes


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("convnet3", ConvNetShape(3, 128, "in")),
        ("convnet4-w64", ConvNetShape(4, 64, "in")),
        ("convnet3-bn", ConvNetShape(3, 128, "bn")),
        ("convnet3-w64-in", ConvNetShape(3, 64, "in")),
        ("convnet12-w8-bn", ConvNetShape(12, 8, "bn")),
        ("convnet3-pad3", ConvNetShape(3, 128, "in", padding=3)),
        ("convnet3-w16-bn-pad2", ConvNetShape(3, 16, "bn", padding=2)),
        ("convnet3-nonorm", ConvNetShape(3, 128, "nonorm")),
        ("convnet3-doubling", ConvNetShape(3, 128, "in", doubling=True)),
        ("convnet4-w64-doubling-bn-pad2", ConvNetShape(4, 64, "bn", 2, doubling=True)),
    ],
)
def test_names_say_depth_width_and_norm(name, expected):
    assert parse_convnet(name) == expected


@pytest.mark.parametrize(
    "name",
    [
        "convnet",
        "convnet0",
        "convnet3-w0",
        "convnet3-bn-w64",
        "convnet3x",
        "convnet3-pad0",
        "convnet3-pad3-bn",
        "convnet3-bn-doubling",
        "convnet3-doubling-w64",
        "convnet3-bn-nonorm",
    ],
)
def test_other_names_are_refused(name):
    with pytest.raises(UserError, match="convnet<depth>"):
        build_network(name, 10, 32)


@pytest.mark.parametrize(
    ("name", "depth", "width", "num_classes", "image_size"),
    [
        ("convnet3", 3, 128, 10, 32),
        ("convnet4-w64-bn", 4, 64, 200, 64),
        ("convnet2-w8", 2, 8, 3, 16),
        ("convnet3-w16-bn", 3, 16, 5, 28),  # 28 -> 14 -> 7 -> 3
    ],
)
def test_shapes_and_parameter_counts(name, depth, width, num_classes, image_size):
    network = build_network(name, num_classes, image_size)
    assert network(torch.randn(2, 3, image_size, image_size)).shape == (2, num_classes)
    assert count_parameters(network) == closed_form(depth, width, num_classes, image_size)


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("convnet2-w4-nonorm", [[nn.Conv2d, nn.ReLU, nn.AvgPool2d]] * 2),
        (
            "convnet2-w4-doubling-bn",
            [
                [nn.Conv2d, nn.ReLU, nn.AvgPool2d],
                [nn.BatchNorm2d, nn.Conv2d, nn.ReLU, nn.AvgPool2d],
            ],
        ),
        ("convnet2-w4-doubling-nonorm", [[nn.Conv2d, nn.ReLU, nn.AvgPool2d]] * 2),
    ],
)
def test_blocks_without_norm_and_with_norm_ahead(name, kinds):
    network = build_network(name, 2, 16)
    assert [[type(layer) for layer in block] for block in network.features] == kinds


def test_widths_double_from_block_to_block():
    network = build_network("convnet3-doubling-nonorm", 10, 32)
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    assert [layer.out_channels for layer in convolutions] == [128, 256, 512]
    assert network.classifier.in_features == 512 * 4 * 4
    assert count_parameters(network) == 1_560_842
    norms = [
        m
        for m in build_network("convnet3-w8-doubling", 2, 32).modules()
        if isinstance(m, nn.GroupNorm)
    ]
    assert [(norm.num_groups, norm.num_channels) for norm in norms] == [(8, 8), (16, 16)]


@pytest.mark.parametrize(
    ("name", "bare"),
    [
        ("convnet3", "convnet3-nonorm"),
        ("convnet4-w64-doubling-bn-pad3", "convnet4-w64-doubling-nonorm-pad3"),
    ],
)
def test_the_same_network_without_norm(name, bare):
    shape = parse_convnet(name)
    assert shape.without_norm() == bare
    other = parse_convnet(bare)
    assert (other.widths(), other.padding) == (shape.widths(), shape.padding)
    assert other.norm == "nonorm"


def test_the_fields_convnet_has_its_published_size():
    assert count_parameters(build_network("convnet3", 10, 32)) == 320_010


def test_padding_makes_28_pixels_the_fields_32():
    padded = build_network("convnet3-pad3", 10, 28)
    assert padded.features[0][0](torch.zeros(1, 3, 28, 28)).shape == (1, 128, 32, 32)
    assert count_parameters(padded) == 320_010  # 28 pixels in three channels, as many as 32
    gray = ConvNet(parse_convnet("convnet3-pad3"), 10, 28, channels=1)
    assert gray(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    assert count_parameters(gray) == 317_706


def test_padding_counts_where_depth_is_limited():
    assert build_network("convnet4-w4-pad5", 2, 8)(torch.zeros(1, 3, 8, 8)).shape == (1, 2)
    with pytest.raises(UserError, match="nothing of 16 pixels: use at most convnet4"):
        build_network("convnet5-w4-pad5", 2, 8)


def test_order_of_layers_in_a_block():
    block = build_network("convnet1-w8-bn", 2, 8).features[0]
    kinds = [type(layer) for layer in block]
    assert kinds == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.AvgPool2d]


def test_instance_norm_equals_torchs_own():
    norm = build_network("convnet1-w8", 2, 8).features[0][1]
    maps = torch.randn(4, 8, 6, 6)
    torch.testing.assert_close(norm(maps), nn.InstanceNorm2d(8, affine=True)(maps))


def test_batch_norm_depends_on_the_batch_and_instance_norm_does_not():
    images = torch.randn(4, 3, 16, 16)
    for name, same in (("convnet2-w8-in", True), ("convnet2-w8-bn", False)):
        network = build_network(name, 3, 16).train()
        together = network(images)[:2]
        apart = network(images[:2])
        assert torch.allclose(together, apart, atol=1e-5) is same


@pytest.mark.parametrize("image_size", [8, 15, 16])
def test_depth_is_limited_by_the_image(image_size):
    deepest = image_size.bit_length() - 1
    assert (
        build_network(f"convnet{deepest}-w4", 2, image_size)(
            torch.randn(2, 3, image_size, image_size)
        )
        .isfinite()
        .all()
    )
    with pytest.raises(UserError, match=f"at most convnet{deepest}"):
        build_network(f"convnet{deepest + 1}-w4", 2, image_size)
