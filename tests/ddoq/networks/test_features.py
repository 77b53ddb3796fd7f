import pytest
import torch
from torch import nn

from ddoq.errors import UserError
from ddoq.networks import build_network, penultimate
from ddoq.networks.features import captured_features, classifier_of


@pytest.mark.parametrize(
    ("name", "dimensions"),
    [("convnet2-w8", 8 * 4 * 4), ("resnetap10", 512), ("resnet18", 512), ("mobilenetv2_050", 1280)],
)
def test_features_are_what_the_last_layer_multiplies(name, dimensions):
    torch.manual_seed(0)
    network = build_network(name, 7, 16).eval()
    images = torch.randn(3, 3, 16, 16)
    features = penultimate(network, images)
    assert features.shape == (3, dimensions)
    torch.testing.assert_close(classifier_of(network)(features), network(images))


def test_timms_own_features_are_the_same():
    network = build_network("resnet18", 4, 32).eval()
    images = torch.randn(2, 3, 32, 32)
    expected = network.forward_head(network.forward_features(images), pre_logits=True)
    assert torch.equal(penultimate(network, images), expected)


def test_every_call_is_captured_and_none_afterwards():
    network = build_network("convnet1-w4", 2, 8)
    with captured_features(network) as seen:
        network(torch.zeros(1, 3, 8, 8))
        network(torch.zeros(2, 3, 8, 8))
    network(torch.zeros(3, 3, 8, 8))
    assert [len(features) for features in seen] == [1, 2]


def test_gradients_flow_to_the_images():
    images = torch.randn(2, 3, 8, 8, requires_grad=True)
    penultimate(build_network("convnet1-w4", 2, 8), images).sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0


def test_networks_without_a_linear_layer_are_refused():
    with pytest.raises(UserError, match="no linear layer"):
        penultimate(nn.Conv2d(3, 2, 1), torch.zeros(1, 3, 4, 4))
