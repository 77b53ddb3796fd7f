import pytest
import torch

from ddoq.errors import UserError
from ddoq.optimisation.pixels import Pixels, draw_batch, initial_images
from ddoq.storage.checkpoints import flatten, unflatten

TARGET = torch.linspace(-3, 3, 24).reshape(2, 3, 2, 2)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def run(pixels: Pixels, steps: int) -> None:
    for _ in range(steps):
        pixels.descend((pixels.images - TARGET).pow(4).mean())


def test_momentum_by_hand():
    pixels = Pixels(torch.tensor([[[[8.0]]]]), lr=0.25, momentum=0.5)
    seen = []
    for _ in range(3):
        pixels.descend(pixels.images.square().sum() / 2)  # the gradient is the value
        seen.append(pixels.images.item())
    # velocity: 8; 6 + 4 = 10; 3.5 + 5 = 8.5
    assert seen == [6.0, 3.5, 3.5 - 8.5 / 4]


def test_pixels_are_not_bounded():
    pixels = Pixels(torch.zeros(2, 3, 2, 2), lr=1.0)
    run(pixels, 400)
    assert pixels.result().max() > 2.9
    assert pixels.result().min() < -2.9


def test_the_given_images_stay():
    start = torch.zeros(2, 3, 2, 2)
    run(Pixels(start, lr=1.0), 3)
    assert torch.equal(start, torch.zeros(2, 3, 2, 2))


def test_weights_behind_a_loss_get_no_gradient():
    layer = torch.nn.Linear(12, 1)
    pixels = Pixels(TARGET, lr=0.1)
    pixels.descend(layer(pixels.images.flatten(1)).sum())
    assert layer.weight.grad is None
    assert not torch.equal(pixels.images, TARGET)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_a_restored_run_ends_with_the_same_bits(momentum):
    start = torch.randn(2, 3, 2, 2, generator=generator())
    whole = Pixels(start, lr=0.3, momentum=momentum)
    run(whole, 9)
    first = Pixels(start, lr=0.3, momentum=momentum)
    run(first, 4)
    tensors, rest = flatten(first.state())
    kept = {name: tensor.clone() for name, tensor in tensors.items()}
    run(first, 5)  # what goes on after the state was taken does not change it
    second = Pixels(torch.full_like(start, 7.0), lr=0.3, momentum=momentum)
    second.restore(unflatten(kept, rest))
    run(second, 5)
    assert torch.equal(second.result(), whole.result())
    assert torch.equal(first.result(), whole.result())


def test_divergence_is_a_clear_error():
    pixels = Pixels(torch.zeros_like(TARGET), lr=1e30)
    run(pixels, 3)
    with pytest.raises(UserError, match="lower the learning rate"):
        pixels.result()


def test_real_starts_are_distinct_real_images():
    real = torch.randn(10, 3, 4, 4, generator=generator())
    start = initial_images(real, 6, init="real", generator=generator(1))
    positions = [(real == image).flatten(1).all(1).nonzero().item() for image in start]
    assert len(set(positions)) == 6
    again = initial_images(real, 6, init="real", generator=generator(1))
    assert torch.equal(start, again)
    other = initial_images(real, 6, init="real", generator=generator(2))
    assert not torch.equal(start, other)


def test_noise_is_standard_normal_and_knows_no_real_image():
    real = torch.full((1, 3, 32, 32), 100.0)
    noise = initial_images(real, 20, init="noise", generator=generator())
    assert noise.mean().item() == pytest.approx(0, abs=0.02)
    assert noise.std().item() == pytest.approx(1, abs=0.02)


def test_wrong_starts_are_refused():
    real = torch.zeros(3, 3, 2, 2)
    with pytest.raises(UserError, match=r"4 synthetic images .* 3 real ones"):
        initial_images(real, 4, init="real", generator=generator())
    with pytest.raises(UserError, match="Did you mean 'noise'"):
        initial_images(real, 1, init="noize", generator=generator())  # type: ignore[arg-type]


def test_batches_are_drawn_without_replacement():
    batch = draw_batch(100, 64, generator())
    assert len(batch.unique()) == len(batch) == 64
    assert sorted(draw_batch(5, 64, generator()).tolist()) == list(range(5))
