import torch

from ddoq.selection.sampling import Drawn, Sampler


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_draws_have_no_image_twice_and_all_count_the_same():
    drawn = Sampler().draw(20, 8, generator())
    assert len(set(drawn.positions.tolist())) == 8
    assert drawn.weights is None
    assert Sampler().weigh(drawn, lambda: 1 / 0) is None  # nothing is measured
    assert sorted(Sampler().draw(5, 8, generator()).positions.tolist()) == [0, 1, 2, 3, 4]


def test_a_larger_choice_begins_with_the_smaller_one():
    small, large = (Sampler().first(20, size, generator()) for size in (3, 9))
    assert large[:3].tolist() == small.tolist()


def test_weights_go_with_what_was_drawn():
    weights = torch.tensor([0.5, 1.5])
    assert Sampler().weigh(Drawn(torch.tensor([0, 1]), weights), lambda: 1 / 0) is weights
