import pytest

from ddoq.decoding.decoders import Pixels
from ddoq.decoding.form import SetForm, SetRecipe
from ddoq.errors import UserError


def test_the_default_is_plain_images():
    assert SetForm() == SetForm(Pixels(), None, None)


def test_a_recipe_travels_in_a_record():
    recipe = SetRecipe("dsa", {"lr": "set"}, lr=0.02)
    assert SetRecipe.read(recipe.describe(), "a file") == recipe


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("dsa", "keys name, overrides, lr"),
        ({"name": "dsa"}, "keys name, overrides, lr"),
        ({"name": 3, "overrides": {}, "lr": None}, "a name and a mapping"),
        ({"name": "dsa", "overrides": [], "lr": None}, "a name and a mapping"),
        ({"name": "dsa", "overrides": {}, "lr": -0.1}, "above 0, not -0.1"),
    ],
)
def test_a_damaged_recipe_is_refused(values, message):
    with pytest.raises(UserError, match=message):
        SetRecipe.read(values, "set/metadata.json")
