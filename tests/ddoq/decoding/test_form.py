import pytest

from ddoq.decoding.decoders import Pixels
from ddoq.decoding.form import SetForm, SetRecipe
from ddoq.errors import UserError


def test_the_default_is_plain_images():
    assert SetForm() == SetForm(Pixels(), None, None)


def test_a_recipe_travels_in_a_record():
    recipe = SetRecipe("dsa", {"lr": "set"}, lr=0.02)
    assert SetRecipe.read(recipe.describe(), "a file") == recipe


def test_rates_of_stages_travel_where_there_are_any():
    recipe = SetRecipe("dsa", {"lr": "set"}, lr=0.02, stage_lrs=(0.05, 0.02))
    assert recipe.describe()["stage_lrs"] == [0.05, 0.02]
    assert SetRecipe.read(recipe.describe(), "a file") == recipe
    assert "stage_lrs" not in SetRecipe("dsa", lr=0.02).describe()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("dsa", "keys name, overrides, lr"),
        ({"name": "dsa"}, "keys name, overrides, lr"),
        ({"name": 3, "overrides": {}, "lr": None}, "a name and a mapping"),
        ({"name": "dsa", "overrides": [], "lr": None}, "a name and a mapping"),
        ({"name": "dsa", "overrides": {}, "lr": -0.1}, "above 0, not -0.1"),
        ({"name": "dsa", "overrides": {}, "lr": 0.1, "stage_lrs": 0.1}, "must be a list"),
        ({"name": "dsa", "overrides": {}, "lr": 0.1, "stage_lrs": [0]}, "above 0, not 0"),
    ],
)
def test_a_damaged_recipe_is_refused(values, message):
    with pytest.raises(UserError, match=message):
        SetRecipe.read(values, "set/metadata.json")
