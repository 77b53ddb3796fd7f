import torch

from ddoq.objectives.influence import influences


def test_leaving_an_image_out_is_what_it_says():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(7, 4, generator=generator)
    images = torch.randn(2, 3, generator=generator, requires_grad=True)
    mix = torch.randn(3, 4, generator=generator)

    def loss(mean):
        return (torch.tanh(images @ mix).mean(0) - mean).square().sum() ** 1.5

    found = influences(rows, loss, images)
    (whole,) = torch.autograd.grad(loss(rows.mean(0)), images)
    for number in range(7):
        others = torch.cat([rows[:number], rows[number + 1 :]])
        (without,) = torch.autograd.grad(loss(others.mean(0)), images)
        torch.testing.assert_close(found[number], (without - whole).norm())


def test_of_one_image_nothing_would_be_left():
    images = torch.zeros(1, requires_grad=True)
    assert influences(torch.ones(1, 1), lambda mean: (mean * images).sum(), images).tolist() == [0]
