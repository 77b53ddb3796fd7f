import pytest
import torch


@pytest.fixture
def cloud():
    """Make a mixture of Gaussians away from the origin."""

    def make(n=200, d=5, seed=0, modes=8, offset=3.0, spread=1.0):
        generator = torch.Generator().manual_seed(seed)
        modes_at = 2 * torch.randn(modes, d, generator=generator)
        chosen = torch.randint(modes, (n,), generator=generator)
        return offset + modes_at[chosen] + spread * torch.randn(n, d, generator=generator)

    return make
