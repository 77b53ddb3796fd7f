"""Keys of images are refused on graphs where someone said them, and only there."""

import pytest

from benchmarks.configuration.image_keys import refuse_image_keys
from ddoq.errors import UserError


def test_what_nobody_says_is_no_mistake():
    said = [
        ("a.yaml", {"model": {"class_path": "DosCond"}, "trainer": {"accelerator": "cpu"}}),
        ("", {"teacher": None}),
        ("", {"evaluation": {"graphs": {"epochs": 3}}}),
    ]
    refuse_image_keys(said, "motifs")


def test_the_keys_and_their_files_are_named():
    said = [
        ("a.yaml", {"recipe": {"name": "hard"}, "trainer": {"precision": "bf16-mixed"}}),
        ("", {"recipe": {"name": "unified"}}),
        ("", {"prior": "TrainedPrior"}),
    ]
    with pytest.raises(UserError) as caught:
        refuse_image_keys(said, "motifs")
    assert str(caught.value).startswith(
        "motifs holds graphs, on which recipe (in a.yaml) and trainer.precision (in a.yaml) and --recipe and --prior have "
        "no effect: leave that out."
    )
