import pytest
import torch

from ddoq.images import to_uint8
from ddoq.measures.drawing import decode_plainly, draw_samples
from ddoq.priors.base import Sampling
from ddoq.priors.diffusion import DiffusionPrior
from ddoq.seeding import generator_for


def draw(prior, per_class=3, **changes):
    given = {"seed": 0, "sampling": Sampling(num_inference_steps=4), "batch_size": 4, **changes}
    return draw_samples(prior, per_class, 3, finish=to_uint8, **given)


@pytest.fixture
def prior(make_pipeline):
    return DiffusionPrior(make_pipeline(classes=3))


def test_samples_are_what_the_prior_makes_of_noise(prior):
    """Zeros that are noised all the way are noise, but for what the schedule leaves of one."""
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    noise = [generator_for(0, "sample", label, k) for label in range(3) for k in range(2)]
    expected = prior.sample(labels, generators=noise, sampling=Sampling(num_inference_steps=4))
    drawn = draw(prior, per_class=2)
    assert drawn.shape == (6, 3, 8, 8)
    assert (drawn.int() - to_uint8(expected).int()).abs().max() <= 1


def test_a_sample_depends_on_neither_batch_nor_number_nor_strength(prior):
    few, many = draw(prior, per_class=2), draw(prior, per_class=3, batch_size=9)
    kept = torch.tensor([0, 1, 3, 4, 6, 7])
    assert (few.int() - many[kept].int()).abs().max() <= 1  # batches round
    weak = draw(prior, sampling=Sampling(0.25, num_inference_steps=4))
    assert torch.equal(weak, draw(prior))
    assert not torch.equal(draw(prior, seed=1), draw(prior))
    assert not torch.equal(few[0], few[1])


def test_plain_decodes_are_the_decoder_alone(pooling_prior):
    latents = torch.rand(5, 3, 2, 2)
    prior = pooling_prior()
    plain = decode_plainly(prior, latents, batch_size=2, finish=to_uint8)
    assert torch.equal(plain, to_uint8(prior.decode(latents)))
