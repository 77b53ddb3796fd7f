import numpy as np
import pytest
import torch

from ddoq.errors import UserError
from ddoq.teachers import label_order_check, labels_disagree


def alarm_rate(
    agreement: float, real: float, num_classes: int, n: int, trials: int = 4000
) -> float:
    """Simulate correct sets on which the teacher agrees with each label independently."""
    hits = np.random.default_rng(0).binomial(n, agreement, size=trials)
    answers = {h: labels_disagree(real, h / n, num_classes, n) for h in np.unique(hits).tolist()}
    return float(np.mean([answers[h] for h in hits.tolist()]))


@pytest.mark.parametrize("n", [1, 3, 10, 20, 50, 200, 2000])
@pytest.mark.parametrize("num_classes", [2, 10, 100])
@pytest.mark.parametrize("real", [0.7, 0.98])
def test_correct_sets_are_almost_never_stopped(n, num_classes, real):
    # The hardest correct set allowed for: it keeps only a quarter of the margin over chance.
    chance = 1 / num_classes
    agreement = chance + (real - chance) / 4
    assert alarm_rate(agreement, real, num_classes, n) <= 2e-3  # 1e-3, and room for 4000 trials
    assert alarm_rate(0.8 * real, real, num_classes, n) <= 2e-3


@pytest.mark.parametrize("num_classes", [10, 100])
@pytest.mark.parametrize("hits", range(11))
def test_ten_images_never_stop_a_run(num_classes, hits):
    assert not labels_disagree(0.95, hits / 10, num_classes, 10)


@pytest.mark.parametrize(("num_classes", "ipc"), [(3, 10), (10, 5), (10, 50), (100, 1), (1000, 1)])
@pytest.mark.parametrize("real", [0.6, 0.95])
def test_a_cyclic_shift_of_labels_is_found(num_classes, ipc, real):
    """Simulated: the teacher is right with probability ``real``, else it guesses any other class."""
    generator = torch.Generator().manual_seed(1)
    truth = torch.arange(num_classes).repeat_interleave(ipc)
    right = torch.rand(len(truth), generator=generator) < real
    other = (truth + torch.randint(1, num_classes, truth.shape, generator=generator)) % num_classes
    guesses = torch.where(right, truth, other)
    correct = (guesses == truth).double().mean().item()
    shifted = (guesses == (truth + 1) % num_classes).double().mean().item()
    assert not labels_disagree(real, correct, num_classes, len(truth))
    # Three classes: a teacher that is wrong 40 % of the time hits the shifted label in 20 % of 30 images, which
    # a correct set of hard images could do as well.
    tellable = not (num_classes == 3 and real == 0.6)
    assert labels_disagree(real, shifted, num_classes, len(truth)) is tellable


def test_random_order_and_no_hit_at_all_are_both_found():
    assert labels_disagree(0.9, 0.1, 10, 100)  # a random permutation leaves chance
    assert labels_disagree(0.9, 0.0, 10, 100)  # a derangement leaves less than chance


def test_clearly_above_chance_passes_however_hard_the_images():
    # 18 % where chance is 10 % is far below the teacher's 95 %, but of 1000 images it is no accident.
    assert not labels_disagree(0.95, 0.18, 10, 1000)
    assert labels_disagree(0.95, 0.10, 10, 1000)


@pytest.mark.parametrize("real", [0.05, 0.1, 0.25])
def test_a_poor_teacher_cannot_judge(real):
    assert not labels_disagree(real, 0.0, 10, 10_000)


def test_one_class_has_no_order():
    assert not labels_disagree(1.0, 1.0, 1, 100)


@pytest.mark.parametrize(
    ("real", "made", "n"), [(1.2, 0.5, 10), (0.9, -0.1, 10), (0.9, float("nan"), 10), (0.9, 0.5, 0)]
)
def test_impossible_numbers_are_refused(real, made, n):
    with pytest.raises(UserError):
        labels_disagree(real, made, 10, n)


def test_the_message_gives_numbers_and_causes():
    with pytest.raises(UserError) as caught:
        label_order_check(0.913, 0.02, 10, 100)
    for part in (
        "91.3%",
        "2.0%",
        "100",
        "chance is 10.0%",
        "order",
        "leading zeros",
        "another dataset",
    ):
        assert part in str(caught.value)
    label_order_check(0.913, 0.6, 10, 100)
