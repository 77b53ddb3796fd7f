"""What tests of the library share."""

import pytest


@pytest.fixture
def parts(coloured_noise, pooling_prior):
    return coloured_noise(), pooling_prior()
