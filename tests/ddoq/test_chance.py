import pytest
from scipy.stats import binomtest

from ddoq.chance import SIGNIFICANCE, chance_bound


@pytest.mark.parametrize("n", [1, 10, 30, 1797, 10_000])
@pytest.mark.parametrize("chance", [0.01, 0.1, 0.5, 1.0])
def test_the_bound_is_the_last_count_that_a_binomial_test_lets_pass(n, chance):
    hits = round(chance_bound(n, chance) * n)

    def p(count):
        return binomtest(count, n, chance, alternative="greater").pvalue

    if hits < n:
        assert p(hits + 1) <= SIGNIFICANCE
    if hits:
        assert p(hits) > SIGNIFICANCE
