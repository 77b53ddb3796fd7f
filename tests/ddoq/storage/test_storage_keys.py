import lightning as L
import pytest

from ddoq.storage.keys import precision_name, seen_key, seen_of

DESCRIPTION = {
    "name": "toy",
    "source": "abc",
    "classes": "def",
    "num_classes": 3,
    "image_size": 8,
    "limit_per_class": None,
    "test_limit_per_class": None,
    "train_images": 60,
    "test_images": 30,
    "mean": (0.5, 0.5, 0.5),
    "std": (0.5, 0.5, 0.5),
}


@pytest.mark.parametrize("alias", ["32", 32, "32-true", "64", "bf16", "bf16-mixed", None])
def test_precisions_are_named_as_lightning_names_them(alias):
    trainer = L.Trainer(accelerator="cpu", precision=alias, logger=False, barebones=True)
    assert precision_name(alias) == trainer.precision


def test_sixteen_is_mixed():  # which no trainer takes on a CPU
    assert precision_name("16") == precision_name(16) == "16-mixed"


def test_parts_see_training_images_alone():
    seen = seen_of(DESCRIPTION)
    assert set(DESCRIPTION) - set(seen) == {
        "name",
        "test_limit_per_class",
        "test_images",
        "mean",
        "std",
    }
    assert set(seen_of(DESCRIPTION, normalized=True)) - set(seen) == {"mean", "std"}
    split = {**DESCRIPTION, "train_split": "one"}
    assert seen_key(split) != seen_key(DESCRIPTION)
