import pytest
import torch
from torch import nn
from torchvision.transforms.v2 import functional as tv

from ddoq.errors import UserError
from ddoq.networks import Normalize, build_network, count_parameters
from ddoq.networks.layers import has_norm

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def test_normalize_equals_torchvision():
    images = torch.rand(4, 3, 5, 6)
    torch.testing.assert_close(
        Normalize(MEAN, STD)(images), tv.normalize(images, list(MEAN), list(STD))
    )


def test_normalize_has_no_state():
    assert Normalize(MEAN, STD).state_dict() == {}


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [((0.5, 0.5), (1.0,), "2 channels"), ((0.5,), (0.0,), "above 0"), ((0.5,), (-1.0,), "above 0")],
)
def test_normalize_refuses_bad_constants(mean, std, message):
    with pytest.raises(UserError, match=message):
        Normalize(mean, std)


@pytest.mark.parametrize(
    ("arch", "size", "normalises"),
    [
        *(
            ("convnet2-w4", 16, True),
            ("convnet2-w4-bn", 16, True),
            ("convnet2-w4-nonorm", 16, False),
        ),
        *(
            ("resnet10t", 32, True),
            ("vit_tiny_patch16_224", 32, True),
            ("mobilenetv3_small_050", 32, True),
        ),
        ("torchvision/squeezenet1_1", 64, False),
    ],
)
def test_norm_layers_are_seen_whoever_built_the_network(arch, size, normalises):
    assert has_norm(build_network(arch, 3, size)) is normalises


def test_count_includes_frozen_parameters_and_excludes_buffers():
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).requires_grad_(False)
    assert count_parameters(module) == 3 * 4 + 4 + 2 * 4
