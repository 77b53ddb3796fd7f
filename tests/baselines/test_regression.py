"""The loop of regressions and what it takes; FRePo and KRR-ST are tested in folders of their own."""

from functools import partial

import pytest
import torch
from torch import nn

from baselines.regression import Regression, regress, regression_stage
from ddoq.costs.flops import count_flops
from ddoq.costs.memory import weight_bytes
from ddoq.costs.workload import Sizes
from ddoq.optimisation.learned import Learned
from ddoq.optimisation.pools import ResetAtAge
from ddoq.storage.checkpoints import Checkpoint


class Killed(Exception):  # noqa: N818 - no error, a kill
    pass


def parts() -> tuple[Learned, ResetAtAge]:
    descent = partial(torch.optim.Adam, lr=0.1)

    def draw(number: int) -> nn.Module:
        torch.manual_seed(number)
        return nn.Linear(3, 1)

    tensors = {
        "images": torch.arange(6.0).reshape(2, 3),
        "targets": torch.tensor([[1.0], [-2.0]]),
    }
    learned = Learned(tensors, descent, lambda step: 1 / (step + 1))
    return learned, ResetAtAge(draw, descent, ages=[0, 2], limit=2)


def run(checkpoint: Checkpoint | None = None, kill_at: int | None = None):
    """Descend under each network in turn, which learns after its use and is reset; killed before a step."""
    learned, pool = parts()

    def take(step: int) -> None:
        if step == kill_at:
            raise Killed
        images, targets = learned.tensors["images"], learned.tensors["targets"]
        place = step % 2
        answers = pool.members[place].network(images)
        learned.descend((answers - targets).square().mean() + images.square().mean(), step)
        pool.use(place, images.detach(), targets.detach())

    losses = regress(
        learned,
        pool,
        take,
        steps=9,
        device=torch.device("cpu"),
        checkpoint=checkpoint,
        what="toy",
        mend="",
    )
    return learned.tensors, losses


@pytest.mark.parametrize("kill_at", [1, 5, 8])
def test_a_killed_regression_ends_with_the_same_bits(tmp_path, kill_at):
    whole, losses = run()
    assert len(set(losses)) == 9  # of one step each
    path = tmp_path / "work.checkpoint"
    with pytest.raises(Killed):
        run(Checkpoint(path, "key", seconds=0), kill_at)
    tensors, resumed = run(Checkpoint(path, "key", seconds=0))
    assert resumed == losses
    assert all(torch.equal(tensors[name], whole[name]) for name in whole)


def test_a_stage_counts_the_images_of_every_step():
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 5, bias=False))

    def gap(copied, real, answers, images, targets):
        return (copied(real) - answers).sum() + (copied(images) - targets).sum()

    size = Regression(steps=7, real=6, learned=2, shown=4, width=5, kept=3)
    stage = regression_stage("toy", network, gap, size, Sizes(2, 100, 10, 4, 50))
    assert (stage.passes, stage.batch) == (70, 10)
    images = torch.rand(2, 3, 4, 4, requires_grad=True)
    step = count_flops(lambda: network(images).sum().backward(inputs=[images]))
    step += count_flops(lambda: network(torch.rand(6, 3, 4, 4)))
    assert stage.flops == pytest.approx(7 * step, rel=0.2)  # counted by whole numbers an image
    assert stage.files == {"images": 4 * 2 * 48, "targets": 4 * 2 * 5}
    assert stage.memory > 3 * weight_bytes(network) + 3 * 4 * 2 * 48
