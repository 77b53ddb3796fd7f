import pytest
import torch
from tiny_pipelines import build_stable_diffusion

from ddoq.priors import DiffusionPrior, StableDiffusionPrior
from ddoq.priors.generators import DecoderGenerator


@pytest.fixture(scope="module")
def stable_diffusion(tmp_path_factory):
    root = tmp_path_factory.mktemp("stable-diffusion")
    build_stable_diffusion(root / "tokenizer").save_pretrained(root / "pipeline")
    return root / "pipeline"


@pytest.fixture(params=["DiT", "Stable Diffusion"])
def prior(request, tiny_folder, stable_diffusion):
    """The two kinds of prior that there are, with weights of no meaning."""
    if request.param == "DiT":
        return DiffusionPrior.from_pretrained(tiny_folder)
    return StableDiffusionPrior.from_pretrained(stable_diffusion, prompts=["a cat", "a dog"])


def images(side, count=2):
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def begun(prior):
    generator = DecoderGenerator(prior)
    return generator, generator.begin(torch.zeros(2), images(prior.image_size), [])


def test_all_layers_are_the_decoder_of_the_prior(prior):
    generator, latents = begun(prior)
    assert torch.equal(latents.features, prior.encode(images(prior.image_size)))
    assert latents.styles is None
    with torch.no_grad():
        made = generator.decode(latents.features)
    assert torch.equal(made.clamp(0, 1), prior.decode(latents.features))
    assert generator.image_size == made.shape[-1] == prior.image_size
    assert generator.begins == "images"


def test_it_can_be_split_before_every_block(prior):
    generator, latents = begun(prior)
    names = [split.name for split in generator.splits]
    blocks = len(prior.vae.decoder.up_blocks)
    assert names == ["latents", "mid", *(f"up{number}" for number in range(blocks)), "output"]
    with torch.no_grad():
        whole = generator.decode(latents.features)
        for number, split in enumerate(generator.splits):
            features = generator.advance(latents, 0, number).features
            assert features.shape == (2, *split.shape)
            assert features.dtype == torch.float32
            assert torch.equal(generator.decode(features, None, number), whole)


def test_gradients_reach_the_features_of_every_split(prior):
    generator, latents = begun(prior)
    for number in range(len(generator.splits)):
        leaf = generator.advance(latents, 0, number).features.requires_grad_()
        (gradient,) = torch.autograd.grad(generator.decode(leaf, None, number).square().sum(), leaf)
        assert gradient.abs().amax(dim=tuple(range(1, leaf.ndim))).min() > 0


def test_what_leaves_the_range_of_pixels_is_cut_off_before_it_is_encoded(prior):
    generator = DecoderGenerator(prior)
    wild = 3 * images(prior.image_size) - 1
    one = generator.begin(torch.zeros(2), wild, []).features
    assert torch.equal(one, prior.encode(wild.clamp(0, 1)))


def test_a_decoder_of_half_precision_keeps_features_in_float32(prior):
    generator, latents = begun(prior)
    prior.to(torch.bfloat16)
    features = generator.advance(latents, 0, 2).features
    assert features.dtype == torch.float32
    with torch.no_grad():
        assert generator.decode(features, None, 2).dtype == torch.float32


def test_weights_are_the_priors(prior):
    generator = DecoderGenerator(prior)
    assert {id(p) for p in generator.parameters()} <= {id(p) for p in prior.parameters()}
