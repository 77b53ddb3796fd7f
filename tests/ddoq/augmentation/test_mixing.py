import torch
from scipy.stats import beta, kstest

from ddoq.augmentation.mixing import draw_shares, mixup


def test_shares_follow_the_beta_distribution():
    shares = draw_shares(20_000, 0.8, torch.Generator().manual_seed(0))
    assert kstest(shares.numpy(), beta(0.8, 0.8).cdf).pvalue > 0.01


def test_a_blend_is_what_the_formula_says_image_by_image():
    one, two = torch.rand(5, 3, 4, 4), torch.rand(5, 3, 4, 4)
    lam = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0])
    mixed = mixup(one, two, lam)
    for i, share in enumerate(lam.tolist()):
        torch.testing.assert_close(mixed[i], share * one[i] + (1 - share) * two[i])
