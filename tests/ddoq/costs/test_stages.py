from torch import nn

from ddoq.costs.memory import weight_bytes
from ddoq.costs.stages import forward_stage, gradient_stage, training_stage
from ddoq.costs.workload import Sizes
from ddoq.networks import build_network

SIZES = Sizes(10, 100, 50, 16, 12)


def test_memory_grows_with_the_batch_and_gradients_need_more():
    network = build_network("convnet2-w8", 10, 16)
    one, many = (forward_stage("judge", "t", network, SIZES, 100, batch) for batch in (1, 50))
    assert one.flops == many.flops
    assert one.memory < many.memory
    gradient = gradient_stage("recover", network, SIZES, 100, 50)
    assert gradient.memory > many.memory
    assert one.memory > weight_bytes(network)


def test_a_batch_is_no_larger_than_the_work():
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 10))
    stage = forward_stage("judge", "t", network, SIZES, 7, 256)
    assert (stage.batch, stage.passes, stage.flops) == (7, 7, 7 * 2 * 768 * 10)


def test_each_moment_of_an_optimiser_takes_the_weights_once_more():
    network = build_network("convnet2-w8", 10, 16)
    sgd, adam = (
        training_stage("train", "t", network, SIZES, 100, 20, moments=moments) for moments in (1, 2)
    )
    assert adam.memory - sgd.memory == weight_bytes(network)
    assert adam.flops == sgd.flops
    judged = forward_stage("judge", "t", network, SIZES, 100, 20)
    assert 2 * judged.flops < sgd.flops <= 3 * judged.flops


def test_networks_are_left_as_they_are():
    network = build_network("convnet2-w8", 10, 16).train()
    gradient_stage("recover", network, SIZES, 100, 50)
    forward_stage("judge", "t", network, SIZES, 7)
    assert network.training
    assert all(p.requires_grad and p.grad is None for p in network.parameters())
