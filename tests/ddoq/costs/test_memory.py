import torch
from torch import nn
from torch.nn import functional as F

from ddoq.costs.memory import peak_bytes, weight_bytes

KB = 1024


def test_what_is_dropped_no_longer_counts():
    def run():
        tensor = torch.zeros(KB, device="meta")  # 4 kB
        for _ in range(5):
            tensor = tensor + 1  # old and new together

    assert peak_bytes(run) == 2 * 4 * KB


def test_views_and_work_in_place_cost_nothing():
    def run():
        tensor = torch.zeros(KB, device="meta")
        tensor.view(4, -1)[0].add_(1)

    assert peak_bytes(run) == 4 * KB


def test_training_keeps_activations_that_inference_drops():
    layers = nn.Sequential(*[nn.Sequential(nn.Linear(64, 64), nn.ReLU()) for _ in range(8)])
    network = layers.to("meta")

    def infer():
        with torch.no_grad():
            network(torch.zeros(100, 64, device="meta"))

    def train():
        network(torch.zeros(100, 64, device="meta")).sum().backward()

    activation = 100 * 64 * 4
    # The caller holds the first input; a layer its input, its output and that of its activation.
    assert peak_bytes(infer) == 4 * activation
    assert peak_bytes(train) >= 8 * activation


def test_attention_has_no_matrix_of_scores():
    q = torch.zeros(1, 1, 4096, 8, device="meta")
    assert peak_bytes(lambda: F.scaled_dot_product_attention(q, q, q)) < 4096 * 4096 * 4 / 100


def test_weights_include_buffers_and_may_be_absent():
    assert weight_bytes(nn.BatchNorm1d(4)) == 4 * 4 * 4 + 8  # four vectors and a counter
    assert weight_bytes(None) == 0
