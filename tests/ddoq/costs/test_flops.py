import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ddoq.costs.flops import (
    count_flops,
    filled,
    forward_flops,
    input_gradient_flops,
    on_meta,
    training_flops,
)
from ddoq.networks import build_network


def conv(positions: int, cin: int, cout: int, k: int, groups: int = 1) -> int:
    return 2 * positions * cout * (cin // groups) * k * k


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_is_two_products_on_every_device(device, dtype):
    # Queries of 5 tokens, keys of 7, 3 heads of 4 channels, 2 images.
    q = torch.zeros(2, 3, 5, 4, device=device, dtype=dtype, requires_grad=True)
    k, v = (torch.zeros(2, 3, 7, 4, device=device, dtype=dtype) for _ in range(2))
    k.requires_grad_(), v.requires_grad_()
    forward = 2 * (2 * 2 * 3 * 5 * 7 * 4)
    with torch.no_grad():
        assert count_flops(lambda: F.scaled_dot_product_attention(q, k, v)) == forward
    both = count_flops(lambda: F.scaled_dot_product_attention(q, k, v).sum().backward())
    assert both == 3 * forward


def test_a_small_vision_transformer_by_hand():
    options = {"patch_size": 4, "embed_dim": 12, "depth": 2, "num_heads": 3}
    network = build_network("vit_tiny_patch16_224", 10, 16, **options)
    tokens, width = 17, 12  # 4 x 4 patches and the class token
    patches = 2 * 16 * (3 * 4 * 4) * width
    attention = 2 * tokens * width * 3 * width + 2 * tokens * width * width
    scores = 2 * (2 * tokens * tokens * width)
    mlp = 2 * (2 * tokens * width * 4 * width)
    head = 2 * width * 10
    whole = patches + 2 * (attention + scores + mlp) + head
    assert forward_flops(network, (3, 16, 16)) == whole
    # Everything again for weights and again for inputs, but for the inputs of the first layer.
    assert training_flops(network, (3, 16, 16)) == 3 * whole - patches
    # Frozen weights cost nothing; attention has two inputs.
    assert input_gradient_flops(network, (3, 16, 16)) == 2 * whole + 2 * scores


def test_a_convolutional_network_by_hand_grouped_and_transposed():
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8),
        nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.Conv2d(8, 6, 1, groups=2),
        nn.ConvTranspose2d(6, 4, 2, stride=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 5),
    )
    first = conv(16, 3, 8, 3)
    up = 2 * 16 * 6 * 4 * 2 * 2
    whole = first + conv(16, 8, 8, 3, groups=8) + conv(16, 8, 6, 1, groups=2) + up + 2 * 4 * 5
    assert forward_flops(network, (3, 8, 8)) == whole
    assert training_flops(network, (3, 8, 8)) == 3 * whole - first
    assert input_gradient_flops(network, (3, 8, 8)) == 2 * whole


def test_resnet18_has_the_published_count():
    # torchvision states 1.814 GFLOPs for ResNet-18, counting a multiply-add once.
    flops = forward_flops(build_network("resnet18", 1000, 224), (3, 224, 224))
    assert flops / 2e9 == pytest.approx(1.814, abs=0.001)


def test_counting_leaves_network_and_random_state_alone():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten())
    network.eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state = torch.get_rng_state()
    training_flops(network, (3, 6, 6))
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert not any(module.training for module in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert torch.backends.mha.get_fastpath_enabled()


def test_a_network_that_reads_values_is_counted_where_it_is():
    class Reads(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(4)
            self.layer = nn.Linear(4, 5)

        def forward(self, inputs):
            return self.layer(self.norm(inputs)) if float(inputs.sum()) == 0 else inputs

    network = Reads()
    assert forward_flops(network, (4,)) == 40
    assert training_flops(network, (4,)) == 120
    assert int(network.norm.num_batches_tracked) == 0


def test_mistakes_of_a_network_are_not_hidden():
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        forward_flops(nn.Linear(4, 5), (3,))


def test_copies_share_what_the_original_shares():
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    network[1].weight = network[0].weight
    ghost = on_meta(network)
    assert ghost[0].weight is ghost[1].weight
    assert network[0].weight.device.type == "cpu"
    real = filled(ghost, torch.device("cpu"))
    assert bool(real(torch.ones(1, 2)).isfinite().all())
