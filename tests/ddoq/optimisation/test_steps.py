"""A loop that is killed anywhere, however often, ends with the bits of one that is not."""

import pytest
import torch

from ddoq.errors import UserError
from ddoq.finite import DivergedError
from ddoq.optimisation.steps import StepLoop
from ddoq.seeding import generator_for
from ddoq.storage.checkpoints import Checkpoint

STEPS = 7


def optimise(checkpoint=None, *, kill_at=None, total=STEPS, what=None):
    """Fit a point to noise that is drawn by step; return it and the steps that were done."""
    point = torch.zeros(5, requires_grad=True)
    optimizer = torch.optim.Adam([point], lr=0.1)
    done = []

    def state():
        return {"point": point, "optimizer": optimizer.state_dict()}

    def restore(kept):
        point.data.copy_(kept["point"])
        optimizer.load_state_dict(kept["optimizer"])

    loop = StepLoop(total, state=state, restore=restore, checkpoint=checkpoint, what=what)
    for step in loop:
        if step == kill_at:
            raise KeyboardInterrupt
        loss = (point - torch.randn(5, generator=generator_for(0, step))).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loop.loss = loss.detach()
        done.append(step)
    return point.detach(), done


@pytest.fixture
def open_checkpoint(tmp_path):
    return lambda key="key": Checkpoint(tmp_path / "loop.checkpoint", key, seconds=0)


@pytest.mark.parametrize("kill_at", range(STEPS))
def test_killed_and_continued_ends_with_the_same_bits(open_checkpoint, kill_at):
    whole, _ = optimise()
    with pytest.raises(KeyboardInterrupt):
        optimise(open_checkpoint(), kill_at=kill_at)
    resumed, done = optimise(open_checkpoint())
    assert done == list(range(kill_at, STEPS))
    assert torch.equal(whole, resumed)


def test_killed_twice_and_at_the_very_end(open_checkpoint):
    whole, _ = optimise()
    for kill_at in (2, 5):
        with pytest.raises(KeyboardInterrupt):
            optimise(open_checkpoint(), kill_at=kill_at)
    assert torch.equal(whole, optimise(open_checkpoint())[0])
    again, done = optimise(open_checkpoint())  # killed before the product was written
    assert done == []
    assert torch.equal(whole, again)


def test_a_checkpoint_of_other_settings(open_checkpoint):
    optimise(open_checkpoint())
    with pytest.raises(UserError, match="other settings"):
        optimise(open_checkpoint("other"))


def test_short_work_writes_nothing(tmp_path):
    optimise(Checkpoint(tmp_path / "loop.checkpoint", "key", seconds=60))
    assert list(tmp_path.iterdir()) == []


def test_progress_names_the_work_and_goes_on_from_the_checkpoint(
    open_checkpoint, capsys, monkeypatch
):
    monkeypatch.setattr("ddoq.console.PAUSE", 0.0)
    with pytest.raises(KeyboardInterrupt):
        optimise(open_checkpoint(), kill_at=5, what="noise")
    assert len(capsys.readouterr().out.splitlines()) == 5
    optimise(open_checkpoint(), what="noise")
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("noise: 6 of 7 steps, loss ")
    assert "to go" in line


def diverging(checkpoint=None, *, bad=3, loss=float("nan"), total=STEPS):
    """Go well until a step whose loss, and then whose state, is not finite."""
    point = torch.zeros(2)
    loop = StepLoop(
        total,
        state=lambda: {"point": point},
        restore=lambda kept: point.copy_(kept["point"]),
        checkpoint=checkpoint,
        what="toy",
        mend="Lower it.",
    )
    for step in loop:
        if step == bad:
            point.fill_(float("nan"))
        loop.loss = torch.tensor(loss if step >= bad else 1.0)
    return point


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
@pytest.mark.parametrize("bad", [0, 3, STEPS - 1])
def test_a_loss_that_is_not_finite_ends_the_loop(loss, bad):
    message = rf"toy diverged: the loss was {loss} in step {bad + 1} of {STEPS}\. Lower it\."
    with pytest.raises(DivergedError, match=message):
        diverging(bad=bad, loss=loss)


def test_losses_are_read_in_the_course_of_a_long_loop(monkeypatch):
    monkeypatch.setattr("ddoq.finite.LOOK", 4)
    seen = []
    loop = StepLoop(1000, state=dict, restore=lambda kept: None)

    def run():
        for step in loop:
            seen.append(step)
            loop.loss = float("nan") if step == 5 else 1.0

    with pytest.raises(DivergedError, match="step 6 of 1000"):
        run()
    assert len(seen) == 8


@pytest.mark.parametrize("loss", [float("nan"), 1.0])
def test_no_checkpoint_is_written_of_what_is_not_finite(open_checkpoint, loss):
    with pytest.raises(DivergedError, match=r"in step 4|after step 4 of 7 its state"):
        diverging(open_checkpoint(), loss=loss)
    assert open_checkpoint().load_step()[0] == 3  # the last sound one; items remove it
