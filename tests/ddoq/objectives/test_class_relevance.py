import pytest
import torch
from torch import nn

from ddoq.networks import draw_network
from ddoq.objectives.class_relevance import blocks_of, relevance_distance, relevant_means


class Two(nn.Module):
    """Two blocks that change nothing, and logits: sums of the first and of the second channel."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Identity(), nn.Identity())
        self.classifier = nn.Linear(1, 1)

    def forward(self, images):
        return self.features(images * 1.0).sum(dim=(2, 3))[:, :2]


def test_means_by_hand():
    images = torch.tensor([[[[1.0, 2.0]], [[3.0, -1.0]]], [[[4.0, 0.0]], [[1.0, 1.0]]]])
    # Class 0 is the sum of channel 0: its map is (1, 2), scaled to (1/2, 1); of the second image (4, 0), scaled to (1, 0).
    first = torch.tensor([[[0.5, 2.0]], [[1.5, -1.0]]])
    second = torch.tensor([[[4.0, 0.0]], [[1.0, 0.0]]])
    blocks = relevant_means(Two(), images, 0)
    assert len(blocks) == 2
    for found in blocks:
        torch.testing.assert_close(found, (first + second) / 2)


def test_what_speaks_against_the_class_does_not_count():
    images = torch.tensor([[[[-1.0, -2.0]], [[3.0, 1.0]]]])
    assert not relevant_means(Two(), images, 0)[0].any()
    assert relevant_means(Two(), images, 1)[0].any()


def test_images_alike_have_no_distance():
    network = draw_network("convnet2-w4", 3, 8, "relevance", seed=0).eval()
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    means = relevant_means(network, images, 1)
    assert [mean.shape for mean in means] == [(4, 4, 4), (4, 2, 2)]
    assert relevance_distance(
        means, relevant_means(network, images.flip(0), 1)
    ).item() == pytest.approx(0, abs=1e-9)
    assert relevance_distance(means, relevant_means(network, images + 1, 1)) > 0
    assert relevance_distance(means, relevant_means(network, images, 2)) > 0


def test_no_hooks_stay_and_no_gradient_flows():
    network = draw_network("convnet2-w4", 3, 8, "relevance", seed=0).eval().requires_grad_(False)
    images = torch.randn(2, 3, 8, 8, requires_grad=True)
    with torch.no_grad():
        (mean, _) = relevant_means(network, images, 0)
    assert not mean.requires_grad
    assert not any(block._forward_hooks for block in blocks_of(network))
