import pytest
import torch

from ddoq.errors import UserError
from ddoq.optimisation.real_images import RealImages


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randint(0, 256, (10, 3, 4, 4), generator=generator(), dtype=torch.uint8)


def double(images: torch.Tensor) -> torch.Tensor:
    return 2 * images - 1


def positions(images: torch.Tensor, drawn: torch.Tensor) -> list[int]:
    transformed = double(images / 255)
    return [int((transformed == image).flatten(1).all(1).nonzero()) for image in drawn]


def test_batches_are_transformed_images_without_replacement(images):
    drawn = RealImages(images, double).draw(6, generator(1))
    assert len(set(positions(images, drawn))) == 6


def test_generators_decide(images):
    real = RealImages(images, double)
    assert torch.equal(real.draw(6, generator(1)), real.draw(6, generator(1)))
    assert not torch.equal(real.draw(6, generator(1)), real.draw(6, generator(2)))


def test_certain_images_are_taken_in_order(images):
    taken = RealImages(images, double).take(torch.tensor([7, 2, 7]))
    assert positions(images, taken) == [7, 2, 7]


def test_small_classes_are_drawn_whole(images):
    drawn = RealImages(images, double).draw(256, generator())
    assert sorted(positions(images, drawn)) == list(range(10))


def test_real_starts_are_distinct_real_images(images):
    start = RealImages(images, double).initial(7, "real", generator())
    assert len(set(positions(images, start))) == 7


def test_noise_is_standard_normal_and_knows_no_real_image():
    real = RealImages(torch.full((1, 3, 32, 32), 200, dtype=torch.uint8), double)
    noise = real.initial(20, "noise", generator())
    assert noise.shape == (20, 3, 32, 32)
    assert noise.mean().item() == pytest.approx(0, abs=0.02)
    assert noise.std().item() == pytest.approx(1, abs=0.02)


def test_wrong_starts_are_refused(images):
    real = RealImages(images, double)
    with pytest.raises(UserError, match=r"11 synthetic images .* 10 real ones"):
        real.initial(11, "real", generator())
    with pytest.raises(UserError, match="Did you mean 'noise'"):
        real.initial(1, "noize", generator())  # type: ignore[arg-type]
