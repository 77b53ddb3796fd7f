import json
import math
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest
import torch

from benchmarks.students.batches import batch_sizes
from benchmarks.students.recipes import Recipe, load_recipe, own_recipe, recipe_names
from ddoq.decoding.form import SetRecipe
from ddoq.errors import UserError
from ddoq.storage.fingerprints import hash_config

FILES = Path(__file__).parents[3] / "benchmarks" / "students" / "recipe_files"


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_loads_and_explains_its_constants(name):
    assert load_recipe(name).label == name
    lines = (FILES / f"{name}.yaml").read_text().splitlines()
    values = [line for line in lines if line and not line.startswith("#")]
    after_comment = [lines[lines.index(line) - 1].startswith("#") for line in values]
    unexplained = [
        line
        for line, explained in zip(values, after_comment, strict=True)
        if "#" not in line
        and not explained
        and line not in ("labels: hard", "loss: ce")
        and not line.endswith(":")  # a table, whose entries are explained
    ]
    assert unexplained == []


# Every value of every recipe, written out a second time from the descriptions of the protocols: SRe2L and Rethinking
# from their scripts, RDED and IDC (by way of Minimax Diffusion) from their repositories, RD3 from arXiv 2509.19743.
ADAMW = {"optimizer": "adamw", "lr": 1e-3, "betas": (0.9, 0.999), "weight_decay_on": "matrices"}
SOFT = {"labels": "online", "loss": "kl", "temperature": 20.0, "scale_t2": False}
HARD = {"labels": "hard", "loss": "ce"}
COSINE = {"schedule": "cosine", "zeta": 1.0}
WHOLE_CROPS = {"crop_scale": (0.08, 1.0), "crop_ratio": (3 / 4, 4 / 3), "flip": True}
HALF_CROPS = {"crop_scale": (0.5, 1.0), "crop_ratio": (3 / 4, 4 / 3), "flip": True}
CUTMIX = {"cutmix_alpha": 1.0, "cutmix_per": "image"}
CUTMIX_OF_BATCHES = {"cutmix_alpha": 1.0, "cutmix_per": "batch"}
NAMED = {"weight_decay_on": "weights"}  # SRe2L and RDED decay by name and dimension
PLAIN = {"patch_shuffle": False, "color_jitter": 0.0, "pca_lighting": 0.0, "jitter_clamp": True}
WEIGHTS = {"reduction": "batch", "weight_under_cutmix": "mix", "weights": "loss"}  # DDOQ
CONDENSATION = (
    HARD
    | PLAIN
    | WEIGHTS
    | {  # VICO-UoE/DatasetCondensation
        "optimizer": "sgd",
        "lr": 0.01,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "weight_decay_on": "all",
        "batch_size": 256,
        "schedule": "multistep",
        "milestones": (0.5,),
        "gamma": 0.1,
        "crop_scale": (1.0, 1.0),
        "flip": False,
        "cutmix_alpha": 0.0,
        "lr_by_arch": {},
    }
)
EXPECTED = {
    "sre2l": ADAMW | SOFT | COSINE | WHOLE_CROPS | CUTMIX_OF_BATCHES | PLAIN | WEIGHTS | NAMED
    | {"epochs": 300, "batch_size": 1024, "bn_batch": 512, "weight_decay": 0.01, "lr_by_arch": {}},
    "unified": ADAMW | SOFT | COSINE | HALF_CROPS | CUTMIX | PLAIN | WEIGHTS
    | {"epochs": 400, "batch_size": 50, "bn_batch": 0, "weight_decay": 0.0, "lr_by_arch": {}},
    "hard": ADAMW | HARD | COSINE | WHOLE_CROPS | PLAIN | WEIGHTS
    | {"epochs": 300, "batch_size": 128, "weight_decay": 0.01, "lr_by_arch": {}, "cutmix_alpha": 0.0},
    "rded": ADAMW | SOFT | CUTMIX_OF_BATCHES | PLAIN | WEIGHTS | NAMED
    | {"epochs": 300, "weight_decay": 0.01, "schedule": "cosine", "zeta": 2.0, "flip": True}
    | {"patch_shuffle": True, "crop_ratio": (3 / 4, 4 / 3)},
    "hard_idc": HARD | HALF_CROPS | CUTMIX_OF_BATCHES | WEIGHTS | {"jitter_clamp": False}
    | {"optimizer": "sgd", "lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4, "weight_decay_on": "all"}
    | {"batch_size": 64, "schedule": "multistep", "milestones": (2 / 3, 5 / 6), "gamma": 0.2}
    | {"patch_shuffle": False, "color_jitter": 0.4, "pca_lighting": 0.1, "lr_by_arch": {}},
    "sre2l_cifar": ADAMW | SOFT | COSINE | PLAIN | WEIGHTS
    | {"weight_decay": 0.01, "weight_decay_on": "all", "epochs": 400, "batch_size": 128, "lr_by_arch": {}}
    | {"temperature": 30.0, "teacher_mode": "train", "warmup": 0}
    | {"crop_scale": (1.0, 1.0), "pad_crop": 4, "flip": True, "cutmix_alpha": 0.0, "mixup_alpha": 0.8}
    | {"cutmix_per": "batch", "bn_batch": 0},
    "sre2l_tiny": SOFT | COSINE | PLAIN | WEIGHTS | WHOLE_CROPS
    | {"optimizer": "sgd", "lr": 0.2, "momentum": 0.9, "weight_decay": 1e-4, "weight_decay_on": "all"}
    | {"epochs": 100, "batch_size": 256, "warmup": 5, "scale_t2": True, "teacher_mode": "eval"}
    | {"cutmix_alpha": 0.0, "mixup_alpha": 0.0, "pad_crop": 0, "lr_by_arch": {}},
    "dc": CONDENSATION | {"epochs": 300, "siamese": "none"},
    "dsa": CONDENSATION | {"epochs": 1000, "siamese": "color_crop_cutout_flip_scale_rotate"},
    "frepo": COSINE | PLAIN | WEIGHTS  # yongchao97/FRePo; its steps are tested by number of images below
    | {"optimizer": "adamw", "lr": 3e-4, "betas": (0.9, 0.999), "weight_decay": 0.0, "lr_by_arch": {}}
    | {"labels": "set", "loss": "mse", "batch_size": 500, "siamese": "flip_color_crop_rotate_translate_cutout"}
    | {"crop_scale": (1.0, 1.0), "flip": False, "cutmix_alpha": 0.0, "pad_crop": 0, "mixup_alpha": 0.0},
}  # fmt: skip
# What the shorter side of a test image is brought to, by the side of the images.
SIDES = {side: side for side in (16, 32, 64, 128, 224)}
TESTED = {
    **{name: SIDES | {224: 256} for name in ("sre2l", "unified", "hard")},
    "rded": {side: side // 7 * 8 for side in (32, 64, 128, 224)},  # as its repository states it
    **dict.fromkeys(("hard_idc", "dc", "dsa", "frepo", "sre2l_cifar", "sre2l_tiny"), SIDES),
}


@pytest.mark.parametrize("name", recipe_names())
def test_test_images_are_resized_as_the_protocol_says(name):
    recipe = load_recipe(name)
    assert {side: recipe.test_side(side) for side in TESTED[name]} == TESTED[name]


@pytest.mark.parametrize("name", recipe_names())
def test_published_constants(name):
    recipe = load_recipe(name)
    assert {key: getattr(recipe, key) for key in EXPECTED[name]} == EXPECTED[name]


@pytest.mark.parametrize(
    ("arch", "lr"),
    [
        *((arch, 1e-3) for arch in ("resnet18", "resnet50", "resnet101", "convnet3", "resnetap10")),
        *(("mobilenetv2_100", 2.5e-3), ("efficientnet_b0", 2e-3), ("vgg11", 5e-4)),
        *((arch, 1e-4) for arch in ("vit_base_patch16_224", "vit_tiny_patch16_224")),
        *((arch, 1e-4) for arch in ("swinv2_tiny_window8_256", "swin_tiny_patch4_window7_224")),
        ("deit_tiny_patch16_224", 1e-4),
        *((f"torchvision/{arch}", 1e-3) for arch in ("resnet18", "resnet18-in", "resnet101")),
        *(("torchvision/mobilenet_v2", 2.5e-3), ("torchvision/efficientnet_b0", 2e-3)),
        *(("torchvision/vgg11", 5e-4), ("torchvision/vit_b_16", 1e-4)),
        *(("torchvision/swin_v2_t", 1e-4), ("timm/mobilenetv2_100", 2.5e-3)),
    ],
)
def test_learning_rates_of_rded(arch, lr):
    assert load_recipe("rded").learning_rate(arch) == lr


# Optimiser steps of FRePo's evaluation, by the number of images in the set.
@pytest.mark.parametrize(
    ("num_classes", "ipc", "steps"),
    [
        *((10, 1, 1000), (10, 10, 2000), (10, 50, 5000)),
        *((100, 1, 2000), (100, 10, 10_000), (100, 50, 40_000)),
        *((200, 1, 20_000), (200, 10, 40_000)),
    ],
)
def test_steps_of_frepo(num_classes, ipc, steps):
    recipe = load_recipe("frepo")
    plan = recipe.plan(ipc, num_classes, ipc * num_classes, 32)
    per_epoch = len(batch_sizes(ipc * num_classes, plan.batch_size))
    assert plan.epochs * per_epoch == steps
    assert plan.warmup * per_epoch == 500
    factors = [recipe.lr_factor(epoch, plan.epochs, plan.warmup) for epoch in range(plan.epochs)]
    assert factors.index(max(factors)) == plan.warmup
    assert factors[-1] < 1e-3


def rded_batch(ipc: int, num_classes: int) -> int:
    """RDED's rule, as its repository states it for 1, 10 and 50 images per class."""
    batch = {1: 10, 10: 50, 50: 100}[ipc] * {10: 1, 100: 2, 200: 1, 1000: 2}[num_classes]
    if num_classes == 200:  # Tiny-ImageNet
        batch = 100
    return min(batch, ipc * num_classes)


@pytest.mark.parametrize("num_classes", [10, 100, 200, 1000])
@pytest.mark.parametrize("ipc", [1, 10, 50])
def test_batches_of_rded(ipc, num_classes):
    plan = load_recipe("rded").plan(ipc, num_classes, ipc * num_classes, 224)
    assert plan.batch_size == rded_batch(ipc, num_classes)


@pytest.mark.parametrize(
    ("ipc", "num_classes", "batch"),
    [(2, 10, 10), (9, 10, 10), (20, 10, 50), (49, 100, 100), (100, 1000, 200), (5, 37, 10)],
)
def test_batches_of_rded_between_its_entries_are_those_of_the_entry_below(ipc, num_classes, batch):
    assert load_recipe("rded").plan(ipc, num_classes, 10**6, 224).batch_size == batch


@pytest.mark.parametrize(("side", "smallest"), [(32, 1), (64, 1), (128, 0.5), (224, 0.5)])
def test_crops_of_rded(side, smallest):
    assert load_recipe("rded").plan(10, 10, 100, side).crop_scale == (smallest, 1.0)


def idc_epochs(ipc: int, num_classes: int) -> int:
    """IDC's rule: upper ends of images per class."""
    ends = {1: 3000, 10: 2000, 50: 1500, 200: 1000, 500: 500}
    epochs = next((epochs for end, epochs in ends.items() if ipc <= end), 300)
    return epochs if num_classes < 100 else 2 * epochs // 3 // 100 * 100


@pytest.mark.parametrize("num_classes", [10, 100])
def test_epochs_of_hard_idc(num_classes):
    recipe = load_recipe("hard_idc")
    for ipc in range(1, 1001):
        epochs = recipe.plan(ipc, num_classes, 10**6, 224).epochs
        assert epochs == idc_epochs(ipc, num_classes), ipc


@pytest.mark.parametrize("name", recipe_names())
def test_every_set_has_a_plan(name):
    recipe = load_recipe(name)
    for num_classes in (2, 10, 37, 100, 150, 200, 345, 1000, 21841):
        for ipc in range(1, 1001):
            plan = recipe.plan(ipc, num_classes, ipc * num_classes, 64)
            assert plan.epochs >= 1
            assert 1 <= plan.batch_size <= ipc * num_classes
            assert 0 < plan.crop_scale[0] <= plan.crop_scale[1] == 1


def test_a_number_replaces_a_table():
    recipe = load_recipe("rded", {"batch_size": 64})
    assert recipe.plan(1, 10, 1000, 32).batch_size == 64
    assert recipe.label == "rded[batch_size=64]"


@pytest.mark.parametrize("table", [{1: {1: 7, 5: 3}}, {"1": {"1": 7, "5": 3}}])
def test_a_table_replaces_a_number(table):
    recipe = load_recipe("unified", {"epochs": table})
    assert [recipe.plan(ipc, 10, 100, 32).epochs for ipc in (1, 4, 5, 6)] == [7, 7, 3, 3]
    assert recipe.label == "unified[epochs=1:1:7+5:3]"


def test_results_of_earlier_recipes_stay_valid():
    # Hashes of the configurations under which results were stored before these recipes could do more.
    recipes = {name: load_recipe(name) for name in ("unified", "sre2l", "hard")}
    # SRe2L's own has since come nearer to its authors' code, and is another one.
    before = {"bn_batch": 0, "cutmix_per": "image", "weight_decay_on": "matrices"}
    recipes["sre2l"] = replace(recipes["sre2l"], **before)
    assert {name: hash_config(recipe.config()) for name, recipe in recipes.items()} == {
        "unified": "7f93c2415e857c50",
        "sre2l": "849de0ffa65681c0",
        "hard": "8d0cbf21741e3699",
    }


@pytest.mark.parametrize("name", recipe_names())
def test_config_is_everything_that_is_used(name):
    recipe = load_recipe(name)
    config, whole = recipe.config(), asdict(recipe)
    assert config.items() <= whole.items()
    defaults = {item.name: item.default for item in fields(recipe)}
    others = whole.keys() - config.keys() - {"test_resize"}  # which stands with the dataset
    assert all(defaults[key] == whole[key] for key in others)
    # A result is checked by the hash of what was read back, whose keys are text.
    assert hash_config(json.loads(json.dumps(config))) == hash_config(config)


BARE = {"crop_scale": [1, 1], "flip": False, "cutmix_alpha": 0.0}  # no augmentation


def test_config_tells_settings_apart():
    changes = [
        {"color_jitter": 0.1},
        {"pca_lighting": 0.1},
        {"patch_shuffle": True},
        {"gamma": 0.5},
        {"schedule": "multistep", "milestones": [0.5]},
        {"labels": "stored"},
        {"labels": "stored", "label_seed": 1},
        {"labels": "stored", "label_top_k": 5},
        {"labels": "set"},
        {"labels": "set", "loss": "mse"},
        {"lr": "set"},
        {"warmup": 1},
        {"warmup": {1: {1: 1}}},
        {"teacher_mode": "train"},
        {"cutmix_alpha": 0.0},
        {"cutmix_alpha": 0.0, "staged": True},
        {"cutmix_alpha": 0.0, "mixup_alpha": 1.0},
        {"crop_scale": [1, 1], "pad_crop": 4},
        {**BARE, "siamese": "color"},
        {**BARE, "siamese": "color_crop"},
        {},
    ]
    configs = [load_recipe("unified", change).config() for change in changes]
    assert len({hash_config({**config, "changed": []}) for config in configs}) == len(changes)


def test_stored_labels_appear_in_label_and_config():
    recipe = load_recipe("sre2l", {"labels": "stored", "label_top_k": 10})
    assert recipe.label == "sre2l[label_top_k=10,labels=stored]"
    config = recipe.config()
    assert (config["labels"], config["label_top_k"]) == ("stored", 10)
    assert "label_seed" not in config


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
        (
            {"test_resize": {224: 200}},
            "test_resize must be a table from sides of images to numbers of pixels, at least the side",
        ),
        (
            {"test_resize": {224: 500}},
            "test_resize must be a table from sides of images to numbers of pixels, at least the side and at most twice it",
        ),
        ({"test_resize": 256}, "test_resize must be a table such as {224: 256}"),
        ({"epochs": "many"}, "epochs"),
        ({"epochs": 2.5}, "epochs"),
        ({"epochs": 0}, "epochs must be at least 1, not 0"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"lr": -1.0}, "lr must be above 0"),
        ({"lr": float("nan")}, "lr must be above 0"),
        ({"zeta": 0.5}, "zeta must be at least 1"),
        ({"temperature": 0.0}, "temperature must be in (0, 1000]"),
        ({"temperature": 1e30}, "temperature must be in (0, 1000]"),
        ({"scale_t2": None}, "scale_t2 must not be null"),
        ({"pca_lighting": 1e30}, "pca_lighting must be in [0, 10]"),
        ({"crop_scale": [0.0, 1.0]}, "crop_scale"),
        ({"crop_scale": [0.9, 0.5]}, "crop_scale"),
        ({"crop_scale": [0.5]}, "crop_scale"),
        ({"crop_ratio": [2.0, 1.0]}, "crop_ratio"),
        ({"cutmix_alpha": -1.0}, "cutmix_alpha"),
        ({"optimizer": "adamx"}, "optimizer"),
        ({"labels": "hard"}, "loss must be 'ce'"),
        ({"epochs": {2: 3}}, "epochs must be a whole number, or a table"),
        ({"epochs": {1: {2: 3}}}, "tables must start at 1, not {1: {2: 3}}"),
        ({"batch_size": {1: {1: 0}}}, "batch_size must be at least 1 for every entry"),
        ({"batch_size": {2: {1: 5}}}, "tables must start at 1"),
        ({"batch_size": {}}, "tables must start at 1"),
        ({"crop_scale": {1: [0.5, 0.2]}}, "crop_scale must be two ascending numbers"),
        ({"schedule": "multistep"}, "milestones must be ascending"),
        ({"milestones": [0.5, 0.2]}, "milestones must be ascending"),
        ({"milestones": [1.5]}, "milestones must be ascending"),
        ({"gamma": 0.0}, "gamma must be in (0, 1]"),
        ({"color_jitter": 1.5}, "color_jitter must be in [0, 1]"),
        ({"pca_lighting": -0.1}, "pca_lighting must be in [0, 10]"),
        ({"labels": "kept"}, "labels"),
        ({"label_seed": 1}, "label_seed must be 0 unless labels is 'stored'"),
        ({"label_top_k": 5}, "label_top_k must be at least 0, and 0 unless labels is 'stored'"),
        ({"labels": "stored", "label_top_k": -1}, "label_top_k must be at least 0"),
        ({"name": "mine"}, "unknown key 'name'"),
        ({"lr": "sett"}, "lr"),
        ({"labels": "hard", "loss": "mse"}, "loss must be 'ce' where labels is 'hard'"),
        (
            {"labels": "stored", "label_top_k": 2, "loss": "mse"},
            "not 'mse' where stored labels keep but some classes",
        ),
        ({**BARE, "siamese": "colour"}, "no kind 'colour'. Did you mean 'color'"),
        ({"siamese": "color"}, "siamese must be 'none' beside crops"),
        ({**BARE, "flip": True, "siamese": "color"}, "siamese must be 'none' beside crops"),
        ({**BARE, "cutmix_alpha": 1.0, "siamese": "color"}, "siamese must be 'none' beside crops"),
        ({**BARE, "color_jitter": 0.1, "siamese": "color"}, "siamese must be 'none' beside crops"),
        ({**BARE, "mixup_alpha": 0.1, "siamese": "color"}, "siamese must be 'none' beside crops"),
        ({**BARE, "pad_crop": 1, "siamese": "color"}, "siamese must be 'none' beside crops"),
        ({"pad_crop": 4}, "pad_crop must be at least 0, and 0 unless crop_scale is [1, 1]"),
        ({"crop_scale": [1, 1], "pad_crop": -1}, "pad_crop must be at least 0"),
        ({"mixup_alpha": 0.8}, "mixup_alpha must be in [0, 1000], and 0 unless cutmix_alpha is 0"),
        ({**BARE, "mixup_alpha": -0.1}, "mixup_alpha must be in [0, 1000]"),
        ({**BARE, "mixup_alpha": float("nan")}, "mixup_alpha must be in [0, 1000]"),
        ({"labels": "stored", "teacher_mode": "train"}, "'eval' unless labels is 'online'"),
        ({"labels": "set", "teacher_mode": "train"}, "'eval' unless labels is 'online'"),
        ({"teacher_mode": "training"}, "teacher_mode"),
        ({"staged": True}, "staged must be false where labels is 'stored'"),
        ({**BARE, "mixup_alpha": 0.1, "staged": True}, "staged must be false where"),
        ({**BARE, "labels": "stored", "staged": True}, "staged must be false where"),
        ({**BARE, "weights": "sampling", "staged": True}, "staged must be false where"),
        ({"warmup": 400}, "warmup must be at least 0 and below epochs"),
        ({"warmup": -1}, "warmup must be at least 0"),
        ({"epochs": {1: {1: 9, 5: 3}}, "warmup": 3}, "warmup must be at least 0 and below epochs"),
        ({"schedule": "constant", "warmup": 3}, "0 unless schedule is 'cosine'"),
        ({"warmup": {1: {1: 5, 10: 400}}}, "warmup must be at least 0 and below epochs"),
        ({"warmup": {1: {1: 0}}}, "for every entry of a table, and tables must start at 1"),
        ({"warmup": {10: {1: 5}}}, "tables must start at 1"),
        ({"warmup": {1: 5}}, "warmup must be a whole number, or a table such as {1: {1: 500"),
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


def test_the_recipe_of_a_set():
    own = SetRecipe("dsa", {"lr": "set", "epochs": 500}, lr=0.02)
    recipe = own_recipe(own)
    assert (recipe.lr, recipe.epochs, recipe.momentum) == ("set", 500, 0.9)
    # The table is that of the recipe with the same changes, whoever asked for them.
    assert recipe == load_recipe("dsa", {"lr": "set", "epochs": 500})
    assert own_recipe(own, {"epochs": 7}).label == "dsa[epochs=7,lr=set]"


def test_a_set_without_a_recipe_and_one_with_an_unknown_recipe():
    with pytest.raises(
        UserError, match=r"without a recipe of its own: give recipe.name one of dc,"
    ):
        own_recipe(None)
    with pytest.raises(UserError, match=r"no recipe 'dsb'\. Did you mean 'dsa'"):
        own_recipe(SetRecipe("dsb"))


def test_the_recipe_of_a_set_is_no_file():
    with pytest.raises(UserError, match="'own' comes with a distilled set"):
        load_recipe("own")


@pytest.mark.parametrize(
    ("changes", "needed"),
    [({}, True), ({"labels": "stored"}, True), ({"labels": "set"}, False)],
)
def test_who_needs_a_teacher(changes, needed):
    assert load_recipe("unified", changes).needs_teacher is needed
    assert not load_recipe("hard").needs_teacher


def test_missing_file():
    with pytest.raises(UserError, match=r"nowhere\.yaml"):
        load_recipe("nowhere.yaml")


def schedule(recipe: Recipe, epochs: int) -> list[float]:
    return [recipe.lr_factor(epoch, epochs) for epoch in range(epochs)]


@pytest.mark.parametrize("name", ["sre2l", "unified", "hard"])
def test_cosine_equals_torchs(name):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=30)
    for factor in schedule(load_recipe(name), 30):
        assert factor == pytest.approx(reference.get_last_lr()[0])
        optimizer.step()
        reference.step()


def test_stretched_cosine_ends_at_half():
    recipe = load_recipe("rded")
    assert recipe.lr_factor(0, 100) == 1.0
    assert recipe.lr_factor(50, 100) == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))
    assert recipe.lr_factor(100, 100) == pytest.approx(0.5)


@pytest.mark.parametrize("epochs", [3000, 2000, 1500, 1300, 1000, 600, 500, 300, 200, 7])
def test_multistep_equals_torchs(epochs):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    milestones = [2 * epochs // 3, 5 * epochs // 6]
    reference = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, gamma=0.2)
    for factor in schedule(load_recipe("hard_idc"), epochs):
        assert factor == pytest.approx(reference.get_last_lr()[0])
        optimizer.step()
        reference.step()


def test_constant():
    assert set(schedule(load_recipe("unified", {"schedule": "constant"}), 20)) == {1.0}
