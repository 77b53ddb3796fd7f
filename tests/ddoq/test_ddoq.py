import numpy as np
import pytest
import torch
from sklearn.cluster import MiniBatchKMeans

from ddoq.ddoq import DDOQ
from ddoq.distillation.shard import Shard
from ddoq.errors import UserError
from ddoq.latents.quantization import Quantizer
from ddoq.quantization import quantize, wasserstein2
from ddoq.quantization.quantize import canonical_order
from ddoq.seeding import derive_seed, generator_for


def shard(counts: list[int], **extras) -> Shard:
    n = len(counts)
    return Shard(
        torch.zeros(n, 3, 8, 8, dtype=torch.uint8),
        torch.zeros(n, dtype=torch.long),
        {"counts": torch.tensor(counts), **extras},
    )


def test_weights_are_cell_masses_of_mean_one():
    torch.testing.assert_close(
        DDOQ(4).weigh(shard([1, 2, 3, 2])), torch.tensor([0.5, 1.0, 1.5, 1.0])
    )


def test_power_zero_is_uniform_and_one_half_lies_between():
    counts = [1, 4, 9]
    assert torch.equal(DDOQ(3, weight_power=0.0).weigh(shard(counts)), torch.ones(3))
    torch.testing.assert_close(
        DDOQ(3, weight_power=0.5).weigh(shard(counts)), torch.tensor([0.5, 1.0, 1.5])
    )


def test_online_counts_are_used_on_request():
    quantizer = Quantizer(method="clvq")
    weights = DDOQ(2, quantizer=quantizer, counts="online").weigh(
        shard([1, 1], online_counts=torch.tensor([1, 3]))
    )
    torch.testing.assert_close(weights, torch.tensor([0.5, 1.5]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weight_power": 1.5}, "weight_power"),
        ({"weight_power": -0.1}, "weight_power"),
        ({"counts": "online"}, "clvq or d4m"),
    ],
)
def test_impossible_settings_are_refused(arguments, message, coloured_noise, pooling_prior):
    with pytest.raises(UserError, match=message):
        DDOQ(2, **arguments).attach(coloured_noise(), prior=pooling_prior())


def test_weights_of_a_set_are_the_shares_of_its_cells(
    coloured_noise, pooling_prior, trainer, tmp_path
):
    distiller = DDOQ(4)
    distiller.attach(coloured_noise(per_class=40), prior=pooling_prior())
    distilled, _ = distiller.run(trainer, tmp_path)
    counts = distilled.weights * 40 / 4
    torch.testing.assert_close(counts, counts.round(), atol=1e-4, rtol=0)
    assert counts.view(3, 4).sum(1).tolist() == pytest.approx([40.0] * 3)
    assert distilled.weights.std() > 0


PAPER = {"quantizer": Quantizer(method="d4m", km_expand=1), "counts": "online"}


def test_faithful_is_d4ms_quantiser_with_online_counts():
    faithful, written_out = DDOQ(4, faithful=True), DDOQ(4, **PAPER)
    assert {name: getattr(faithful, name) for name in PAPER} == PAPER
    assert faithful.settings() == {**written_out.settings(), "faithful": True}
    assert faithful.shard_settings() == written_out.shard_settings(), "the same images"
    assert DDOQ(4, **PAPER, faithful=True).settings() == faithful.settings()


def test_without_it_all_is_as_before():
    plain = DDOQ(4)
    expected = {"quantizer": Quantizer(), "counts": "exact", "weight_power": 1.0, "ipc": 4}
    assert {name: plain.settings()[name] for name in expected} == expected
    assert "faithful" not in plain.settings()
    assert DDOQ(4, quantizer=Quantizer(), counts="exact").settings() == plain.settings()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"counts": "exact"}, "counts is exact; there counts is online. Remove counts, or set"),
        ({"quantizer": Quantizer()}, "quantizer.method is lloyd; there quantizer.method is d4m"),
        ({"quantizer": Quantizer("d4m", km_expand=10)}, "km_expand is 10; there"),
    ],
)
def test_what_contradicts_faithful_is_refused(given, words):
    with pytest.raises(UserError, match=words):
        DDOQ(4, faithful=True, **given)


def test_weights_of_a_faithful_set_are_the_counts_of_partial_fits(
    coloured_noise, pooling_prior, trainer, tmp_path
):
    data = coloured_noise(per_class=40)
    distiller = DDOQ(4, seed=3, faithful=True)
    distiller.attach(data, prior=pooling_prior())
    distilled, _ = distiller.run(trainer, tmp_path)
    for label in range(3):
        images = data.train.load(data.train.of_class(label).tolist()).float() / 255
        latents = distiller.prior.encode(images).half().float().flatten(1)
        seed = derive_seed(derive_seed(3, "quantize", label), 0)
        latents = latents[canonical_order(latents)]
        latents = latents[torch.randperm(40, generator=generator_for(seed, "d4m"))]
        state = derive_seed(seed, "d4m", "random_state") % 2**32
        fits = MiniBatchKMeans(4, random_state=state, batch_size=4, n_init="auto")
        for chunk in latents.split(4):
            fits.partial_fit(chunk.numpy())
        counts = np.round(fits._counts)
        expected = torch.from_numpy(4 * counts / counts.sum()).float()
        torch.testing.assert_close(distilled.weights[distilled.labels == label], expected)


@pytest.mark.parametrize(("k", "percent"), [(10, 17.0), (50, 17.8)])
def test_gain_of_weights_in_wasserstein_distance_that_the_readme_states(k, percent):
    n, d = 1300, 4096  # a class of ImageNet, latents of 4 x 32 x 32; the i-th axis has variance 1/i
    latents = torch.randn(n, d, generator=torch.Generator().manual_seed(0))
    latents *= torch.arange(1, d + 1).float().rsqrt()
    book = quantize(latents, k, method="d4m", chunk=k)
    uniform = wasserstein2(latents, book, torch.ones(k))
    online = wasserstein2(latents, book, book.online_counts.double())
    assert 100 * (1 - online / uniform) == pytest.approx(percent, abs=0.5)
