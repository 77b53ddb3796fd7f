import pytest
import torch
from torch import nn

from ddoq.errors import UserError
from ddoq.networks import build_network, count_parameters, draw_network


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Any attempt to go online fails the test."""

    def refuse(*args, **kwargs):
        raise AssertionError("went online")

    monkeypatch.setattr("socket.socket.connect", refuse)


@pytest.mark.parametrize("image_size", [16, 32])
@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("resnet18", {}),
        ("mobilenetv2_035", {}),
        ("vit_tiny_patch16_224", {"patch_size": 4, "depth": 2}),
        ("vit_tiny_patch16_224", {"depth": 1}),
    ],
)
def test_timm_names(name, kwargs, image_size):
    network = build_network(name, 7, image_size, **kwargs).eval()
    assert network(torch.randn(2, 3, image_size, image_size)).shape == (2, 7)


# The field's students: image sizes and options under which each is used. Building tries one black image.
@pytest.mark.parametrize(
    ("name", "image_size", "options", "parameters"),
    [
        ("convnet6", 64, {}, None),
        ("convnet6", 224, {}, None),
        ("resnetap10", 224, {}, 4_910_922),
        ("resnet18", 64, {"stem": "small"}, None),
        ("resnet50", 32, {"stem": "small"}, None),
        ("resnet101", 32, {}, None),
        ("mobilenetv2_100", 224, {}, 2_236_682),
        ("mobilenetv2_100", 32, {"stem": "small"}, 2_236_682),
        ("efficientnet_b0", 64, {"stem": "small"}, 4_020_358),
        ("deit_tiny_patch16_224", 224, {}, 5_526_346),
        ("deit_tiny_patch16_224", 32, {"patch_size": 4}, None),
        ("vit_tiny_patch16_224", 64, {"patch_size": 8}, None),
        ("swin_tiny_patch4_window7_224", 224, {}, 27_527_044),
        ("swin_tiny_patch4_window7_224", 64, {"window_size": 4}, None),
        ("swin_tiny_patch4_window7_224", 32, {"patch_size": 2, "window_size": 4}, None),
    ],
)
def test_students_of_the_field(name, image_size, options, parameters):
    network = build_network(name, 10, image_size, **options)
    if parameters is not None:
        assert count_parameters(network) == parameters


def test_vision_transformers_are_built_for_the_image_size():
    network = build_network("vit_tiny_patch16_224", 7, 32, patch_size=4, depth=1)
    assert network.pos_embed.shape[1] == (32 // 4) ** 2 + 1


def test_patches_must_divide_the_side():
    with pytest.raises(UserError, match="do not divide 28"):
        build_network("vit_tiny_patch16_224", 7, 28, depth=1)
    build_network("vit_tiny_patch16_224", 7, 28, depth=1, patch_size=7)


def test_built_network_is_in_training_mode_and_its_statistics_untouched():
    network = build_network("resnet18", 3, 32)
    assert network.training
    assert int(network.bn1.num_batches_tracked) == 0


def test_same_generator_state_same_weights():
    weights = []
    for _ in range(2):
        torch.manual_seed(5)
        weights.append(build_network("mobilenetv2_035", 3, 32).state_dict())
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def resolution_after_first_layers(network: nn.Module, layer: str, image_size: int) -> int:
    sides = []
    network.get_submodule(layer).register_forward_hook(lambda m, i, o: sides.append(o.shape[-1]))
    network.eval()(torch.randn(1, 3, image_size, image_size))
    return sides[0]


@pytest.mark.parametrize(
    ("name", "layer", "reduction"),
    [
        ("resnet18", "maxpool", 4),
        ("resnet18d", "maxpool", 4),
        ("mobilenetv2_035", "conv_stem", 2),
        ("mobilenetv3_small_050", "conv_stem", 2),
        ("efficientnet_b0", "conv_stem", 2),
        ("tf_efficientnet_b0", "conv_stem", 2),
    ],
)
def test_small_stem_keeps_the_resolution(name, layer, reduction):
    assert resolution_after_first_layers(build_network(name, 3, 32), layer, 32) == 32 // reduction
    small = build_network(name, 3, 32, stem="small")
    assert resolution_after_first_layers(small, layer, 32) == 32


def test_small_stem_of_resnet18_is_the_fields():
    network = build_network("resnet18", 10, 32, stem="small")
    assert network.conv1.kernel_size == (3, 3)
    assert isinstance(network.maxpool, nn.Identity)
    # ResNet-18 with a 3x3 stem and ten classes, counted by hand: 11 181 642 - 64 * 3 * (49 - 9).
    assert count_parameters(network) == 11_181_642 - 64 * 3 * 40
    # He et al.: weights of a convolution before ReLU have standard deviation sqrt(2 / fan_out).
    assert network.conv1.weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.1)


@pytest.mark.parametrize(
    ("name", "image_size", "options", "message"),
    [
        ("resnet_18", 32, {}, "resnet18"),
        ("zzzz", 32, {}, "No network is called 'zzzz'"),
        ("hf-hub:timm/resnet18", 32, {}, "Unknown library 'hf-hub:timm'.*timm, torchvision"),
        ("resnet18", 32, {"foo": 1}, "no argument 'foo'"),
        ("vit_tiny_patch16_224", 32, {"bar": 1}, "no argument 'bar'"),
        ("vit_tiny_patch16_224", 32, {"patch_size": "x"}, "patch_size='x'"),
        ("resnet10t", 32, {"channels": [16, 32, 64]}, "cannot be used with its `kwargs`"),
        ("vit_tiny_patch16_224", 32, {"img_size": 64, "depth": 1}, "does not take images of 32"),
        ("resnet18", 32, {"pretrained": True}, "pretrained cannot be set"),
        ("resnet18", 32, {"checkpoint_path": "x.pth"}, "checkpoint_path cannot be set"),
        ("vgg11", 16, {}, "does not take images of 16"),
        ("convnet3", 32, {"width": 64}, "width=64"),
        ("convnet3", 32, {"stem": "small"}, "leave `stem` out"),
        ("convnet6", 32, {}, "at most convnet5"),
        ("resnetap10", 4, {}, "at least 8"),
        ("resnetap10", 32, {"stem": "small"}, "chooses its stem"),
        ("resnetap10", 32, {"width": 2}, "width=2"),
        ("resnetap11", 32, {}, "resnetap<10|18>"),
        ("resnet_ap10", 32, {}, "resnetap<10|18>"),
        ("vit_tiny_patch16_224", 32, {"stem": "small", "depth": 1}, "patch_size"),
        ("resnet18", 128, {"stem": "small"}, "at most 64 pixels"),
        ("resnet18", 32, {"stem": "smal"}, "Did you mean 'small'"),
        ("resnet18", 0, {}, "image_size must be at least 1"),
    ],
)
def test_mistakes_are_explained(name, image_size, options, message):
    with pytest.raises(UserError, match=message):
        build_network(name, 10, image_size, **options)


def test_no_class_is_refused():
    with pytest.raises(UserError, match="num_classes"):
        build_network("convnet3", 0, 32)


def test_drawn_networks_depend_on_seed_and_keys_alone():
    def weights(seed: int, *keys: int | str) -> torch.Tensor:
        network = draw_network("convnet1-w4", 2, 8, *keys, seed=seed)
        return network.features[0][0].weight

    torch.manual_seed(1)
    first = weights(0, "pool", 1)
    torch.manual_seed(2)
    assert torch.equal(weights(0, "pool", 1), first)
    assert not torch.equal(weights(0, "pool", 2), first)
    assert not torch.equal(weights(1, "pool", 1), first)


def test_drawing_a_network_leaves_other_draws_alone():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    draw_network("convnet1-w4", 2, 8, "pool", seed=0)
    assert torch.equal(torch.rand(4), expected)
