import itertools

import pytest

from ddoq.errors import UserError
from ddoq.measures.choice import MARGIN, DecodedSetting, choose_setting


def setting(recognised, frechet, strength=0.5, guidance_scale=4.0):
    return DecodedSetting(strength, guidance_scale, 100, recognised, frechet, 20.0)


def test_the_nearest_to_the_data_of_those_that_are_recognised():
    near, good, far = setting(0.60, 1.0), setting(0.85, 5.0), setting(0.99, 9.0)
    for order in itertools.permutations([near, good, far]):
        assert choose_setting(order, 0.93) == (good, True)
        assert choose_setting(order, 0.70) == (near, True)


def test_the_most_recognised_where_none_reaches_the_goal():
    worse, best, further = setting(0.3, 1.0), setting(0.5, 9.0), setting(0.5, 10.0)
    assert choose_setting([worse, further, best], 0.93) == (best, False)


def test_the_goal_itself_is_reached():
    """0.93 - 0.1 is a little more than 0.83 in binary."""
    assert 0.93 - MARGIN > 0.83
    assert choose_setting([setting(0.83, 1.0)], 0.93)[1]
    assert not choose_setting([setting(0.829, 1.0)], 0.93)[1]


def test_of_equal_ones_that_which_changes_least():
    weak, strong = setting(0.9, 1.0, 0.3), setting(0.9, 1.0, 0.7)
    little, much = setting(0.9, 1.0, 0.3, 2.0), setting(0.9, 1.0, 0.3, 7.0)
    assert choose_setting([strong, weak], 0.9)[0] is weak
    assert choose_setting([much, little], 0.9)[0] is little


def test_nothing_is_no_choice():
    with pytest.raises(UserError, match="no setting"):
        choose_setting([], 0.9)
