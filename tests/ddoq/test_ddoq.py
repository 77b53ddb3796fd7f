import pytest
import torch

from ddoq.ddoq import DDOQ
from ddoq.distillation.shard import Shard
from ddoq.errors import UserError
from ddoq.latents.quantization import Quantizer


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
