import pytest
import torch

from ddoq.errors import UserError
from ddoq.optimisation.pixels import Pixels
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


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_coasting_is_stepping_down_zero_gradients(momentum):
    start = torch.randn(2, 3, 2, 2, generator=generator())
    coasting, stepping = (Pixels(start, lr=0.3, momentum=momentum) for _ in range(2))
    for _ in range(2):
        for pixels in (coasting, stepping):
            run(pixels, 1)
        coasting.coast(4)
        for _ in range(4):
            stepping.descend(0 * stepping.images.sum())
    torch.testing.assert_close(coasting.result(), stepping.result())


def test_images_that_have_not_moved_do_not_coast():
    pixels = Pixels(TARGET, lr=0.3, momentum=0.5)
    pixels.coast(3)
    assert torch.equal(pixels.result(), TARGET)


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
    assert torch.equal(second.loss, whole.loss)


def test_a_state_without_further_steps_knows_its_loss():
    pixels = Pixels(torch.zeros(2, 3, 2, 2), lr=0.3)
    run(pixels, 4)
    other = Pixels(torch.zeros(2, 3, 2, 2), lr=0.3)
    other.restore(unflatten(*flatten(pixels.state())))
    assert other.loss == pixels.loss > 0


def test_divergence_is_a_clear_error():
    pixels = Pixels(torch.zeros_like(TARGET), lr=1e30)
    run(pixels, 3)
    with pytest.raises(UserError, match="lower the learning rate"):
        pixels.result()
