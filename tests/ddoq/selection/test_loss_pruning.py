import pytest
import torch

from ddoq.errors import UserError
from ddoq.selection.loss_pruning import kept_of, prune_by_loss, rank_losses


def test_scores_are_means_over_trainings_of_the_epochs_asked_for():
    losses = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(rank_losses(losses, "initial"), losses[:, 0].double().mean(0))
    torch.testing.assert_close(rank_losses(losses, "converged"), losses[:, 3].double().mean(0))
    torch.testing.assert_close(rank_losses(losses, "mean"), losses.double().mean((0, 1)))


def test_an_unknown_rank_is_refused():
    with pytest.raises(UserError, match=r"Unknown rank 'first'\. Valid: converged, initial, mean"):
        rank_losses(torch.zeros(1, 1, 1), "first")


@pytest.mark.parametrize("share", [0.2, 0.3, 0.5, 0.8])
def test_each_class_keeps_its_easiest_images(share):
    generator = torch.Generator().manual_seed(1)
    scores, labels = torch.rand(60, generator=generator), torch.arange(60) % 3
    kept = prune_by_loss(scores, labels, share)
    assert kept.tolist() == sorted(kept.tolist())
    left_out = torch.ones(60, dtype=torch.bool)
    left_out[kept] = False
    for label in range(3):
        mine = labels == label
        assert int((labels[kept] == label).sum()) == kept_of(20, share) == round(20 * share)
        assert scores[kept][labels[kept] == label].max() < scores[mine & left_out].min()


def test_of_equal_images_the_first_are_kept():
    assert prune_by_loss(torch.zeros(6), torch.tensor([1, 0, 1, 0, 1, 0]), 0.7).tolist() == [
        0,
        1,
        2,
        3,
    ]


def test_a_share_of_one_keeps_every_image_in_its_place():
    labels = torch.tensor([2, 0, 1, 0])
    assert prune_by_loss(torch.rand(4), labels, 1.0).tolist() == [0, 1, 2, 3]
