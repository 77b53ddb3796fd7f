import math
from pathlib import Path

import pytest
import torch

from benchmarks.recipes import Recipe, load_recipe, recipe_names
from ddoq.errors import UserError

FILES = Path(__file__).parents[2] / "benchmarks" / "recipe_files"


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_loads_and_explains_its_constants(name):
    assert load_recipe(name).label == name
    lines = (FILES / f"{name}.yaml").read_text().splitlines()
    values = [line for line in lines if line and not line.startswith("#")]
    after_comment = [lines[lines.index(line) - 1].startswith("#") for line in values]
    unexplained = [
        line
        for line, explained in zip(values, after_comment, strict=True)
        if "#" not in line and not explained and line not in ("labels: hard", "loss: ce")
    ]
    assert unexplained == []


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("unified", {"batch_size": 50, "epochs": 400, "lr": 1e-3, "labels": "online", "zeta": 1.0}),
        ("sre2l", {"batch_size": 1024, "epochs": 300, "weight_decay": 0.01, "temperature": 20.0}),
        (
            "sre2l",
            {"crop_scale": (0.08, 1.0), "flip": True, "cutmix_alpha": 1.0, "scale_t2": False},
        ),
        ("hard", {"labels": "hard", "loss": "ce", "cutmix_alpha": 0.0}),
    ],
)
def test_published_constants(name, values):
    recipe = load_recipe(name)
    assert {key: getattr(recipe, key) for key in values} == values


def test_overrides_change_values_and_label():
    recipe = load_recipe("unified", {"flip": False, "epochs": 60, "crop_scale": [0.8, 1]})
    assert (recipe.flip, recipe.epochs, recipe.crop_scale) == (False, 60, (0.8, 1.0))
    assert recipe.label == "unified[crop_scale=0.8-1,epochs=60,flip=False]"


def test_an_override_that_changes_nothing_leaves_no_trace():
    assert load_recipe("unified", {"epochs": 400, "lr": 1e-3}) == load_recipe("unified")


def test_lr_by_arch_takes_the_longest_prefix():
    lrs = {"mobilenetv2": 0.0025, "mobilenet": 0.5, "vit_": 1e-4}
    recipe = load_recipe("unified", {"lr_by_arch": lrs})
    assert recipe.learning_rate("mobilenetv2_100") == 0.0025
    assert recipe.learning_rate("vit_tiny") == 1e-4
    assert recipe.learning_rate("resnet18") == 1e-3
    assert recipe.label == "unified[lr_by_arch=mobilenet:0.5+mobilenetv2:0.0025+vit_:0.0001]"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"epoch": 3}, "unknown key 'epoch'. Did you mean 'epochs'"),
        ({"epochs": "many"}, "epochs"),
        ({"epochs": 2.5}, "epochs"),
        ({"epochs": 0}, "epochs must be at least 1, not 0"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"lr": -1.0}, "lr must be above 0"),
        ({"lr": float("nan")}, "lr must be above 0"),
        ({"zeta": 0.5}, "zeta must be at least 1"),
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"crop_scale": [0.0, 1.0]}, "crop_scale"),
        ({"crop_scale": [0.9, 0.5]}, "crop_scale"),
        ({"crop_scale": [0.5]}, "crop_scale"),
        ({"crop_ratio": [2.0, 1.0]}, "crop_ratio"),
        ({"cutmix_alpha": -1.0}, "cutmix_alpha"),
        ({"optimizer": "adamx"}, "optimizer"),
        ({"labels": "hard"}, "loss must be 'ce'"),
        ({"name": "mine"}, "unknown key 'name'"),
    ],
)
def test_wrong_overrides(overrides, message):
    with pytest.raises(UserError, match=r"unified.*") as caught:
        load_recipe("unified", overrides)
    assert message in str(caught.value)


def test_unknown_recipe_names_the_nearest():
    with pytest.raises(UserError, match=r"'unifed'. Did you mean 'unified'"):
        load_recipe("unifed")


def test_own_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text((FILES / "sre2l.yaml").read_text().replace("lr: 0.001", "lr: 1e-4"))
    recipe = load_recipe(str(path), {"epochs": 5})
    assert recipe.lr == 1e-4  # YAML 1.1 reads this as text
    assert recipe.label == "mine[epochs=5]"


@pytest.mark.parametrize(
    ("text", "message"),
    [("epochs: [", "not valid YAML"), ("- 1", "mapping"), ("epochs: 3", "required")],
)
def test_broken_files(tmp_path, text, message):
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        load_recipe(str(path))
    assert "broken.yaml" in str(caught.value)


def test_missing_file():
    with pytest.raises(UserError, match=r"nowhere\.yaml"):
        load_recipe("nowhere.yaml")


def schedule(recipe: Recipe) -> list[float]:
    return [recipe.lr_factor(epoch) for epoch in range(recipe.epochs)]


def test_cosine_equals_torchs():
    recipe = load_recipe("unified", {"epochs": 30})
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=30)
    for factor in schedule(recipe):
        assert factor == pytest.approx(reference.get_last_lr()[0])
        optimizer.step()
        reference.step()


def test_stretched_cosine_ends_at_half():
    recipe = load_recipe("unified", {"epochs": 100, "zeta": 2.0})
    assert recipe.lr_factor(0) == 1.0
    assert recipe.lr_factor(50) == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))
    assert recipe.lr_factor(100) == pytest.approx(0.5)


def test_constant():
    assert set(schedule(load_recipe("unified", {"schedule": "constant"}))) == {1.0}
