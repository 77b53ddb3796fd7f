import pytest
import torch

from ddoq.decoding.transform import Transform, fit_zca
from ddoq.errors import UserError


def noise(n: int = 200, side: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(n, 3, side, side, generator=generator)
    return 0.75 * images + 0.25 * images.roll(1, dims=3)  # neighbours are correlated


def test_normalisation_is_the_channels_own():
    transform = Transform.normalize((0.5, 0.4, 0.3), (0.2, 0.1, 0.3))
    images = noise(2)
    expected = (images[:, 1] - 0.4) / 0.1
    torch.testing.assert_close(transform.apply(images)[:, 1], expected)
    torch.testing.assert_close(transform.invert(transform.apply(images)), images)


def test_whitened_images_are_uncorrelated():
    images = noise(2000)
    whitened = fit_zca(images, eps=1e-6).apply(images).flatten(1)
    torch.testing.assert_close(whitened.mean(0), torch.zeros(48), atol=1e-3, rtol=0)
    torch.testing.assert_close(whitened.T.cov(), torch.eye(48), atol=0.01, rtol=0)


def test_the_regulariser_is_added_to_the_eigenvalues():
    images = noise()
    covariance = images.flatten(1).double().T.cov()
    values, vectors = torch.linalg.eigh(covariance)
    expected = vectors @ torch.diag((values + 0.1) ** -0.5) @ vectors.T
    fitted = fit_zca(images)
    torch.testing.assert_close(fitted.zca, expected.float(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(fitted.mean, images.mean(0), rtol=1e-5, atol=1e-6)
    assert bool((fitted.std == 1).all())


def test_images_can_be_divided_by_deviations_before_they_are_whitened():
    images, std = noise(), torch.tensor([0.2, 0.5, 0.3])
    fitted = fit_zca(images, std=std.tolist())
    divided = images / std.reshape(3, 1, 1)
    covariance = divided.flatten(1).double().T.cov()
    values, vectors = torch.linalg.eigh(covariance)
    expected = vectors @ torch.diag((values + 0.1) ** -0.5) @ vectors.T
    torch.testing.assert_close(fitted.zca, expected.float(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(fitted.std[:, 1, 2], std)
    whitened = (divided - divided.mean(0)).flatten(1) @ fitted.zca
    torch.testing.assert_close(fitted.apply(images).flatten(1), whitened, rtol=1e-4, atol=1e-4)


def test_whitening_is_symmetric_and_can_be_undone():
    images = noise()
    transform = fit_zca(images)
    torch.testing.assert_close(transform.zca, transform.zca.T)
    torch.testing.assert_close(transform.invert(transform.apply(images)), images)


def test_8_bit_images_are_fitted_as_pixels_in_0_to_1():
    images = (noise() * 255).to(torch.uint8)
    torch.testing.assert_close(fit_zca(images).zca, fit_zca(images / 255).zca)


def test_a_device_copy_is_the_same_map():
    transform = fit_zca(noise())
    torch.testing.assert_close(transform.to("cpu").apply(noise()), transform.apply(noise()))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((torch.zeros(3), torch.ones(3)), r"must both be \(3, 1, 1\)"),
        ((torch.zeros(3, 1, 1), torch.zeros(3, 1, 1)), "std must be above 0"),
        ((torch.zeros(3, 1, 1).double(), torch.ones(3, 1, 1)), "float32"),
        ((torch.full((3, 1, 1), torch.nan), torch.ones(3, 1, 1)), "finite"),
        ((torch.zeros(3, 1, 1), torch.ones(3, 1, 1), torch.ones(2, 3)), "square"),
    ],
)
def test_parts_that_do_not_fit(parts, message):
    with pytest.raises(UserError, match=message):
        Transform(*parts)


def test_images_of_another_size_are_refused():
    transform = fit_zca(noise(side=4))
    transform.check_size(torch.Size([5, 3, 4, 4]))
    with pytest.raises(UserError, match=r"does not fit images of \(3, 8, 8\).*48 rows"):
        transform.check_size(torch.Size([5, 3, 8, 8]))
    Transform.normalize((0.0,) * 3, (1.0,) * 3).check_size(torch.Size([5, 3, 8, 8]))


def test_a_matrix_that_cannot_be_inverted():
    flat = Transform(torch.zeros(3, 1, 1), torch.ones(3, 1, 1), torch.zeros(12, 12))
    with pytest.raises(UserError, match="cannot be inverted"):
        flat.invert(torch.zeros(1, 3, 2, 2))


def test_too_little_to_fit():
    with pytest.raises(UserError, match="at least two images"):
        fit_zca(noise(1))
    with pytest.raises(UserError, match="eps above 0"):
        fit_zca(noise(), eps=0)


def test_names_of_parts_in_a_file():
    transform = fit_zca(noise())
    assert set(transform.tensors()) == {"mean", "std", "zca"}
    again = Transform.read(transform.tensors(), "a file")
    assert torch.equal(again.zca, transform.zca)
    with pytest.raises(UserError, match="a file: a transform has mean, std and at most zca"):
        Transform.read({"mean": transform.mean}, "a file")
