import pytest

from ddoq.errors import UserError
from ddoq.priors.generators.base import Split, check_generator, split_number

SPLITS = [Split(name, (1, 1, 1)) for name in ("b4", "b8", "b16", "rgb")]


def test_a_split_is_found_by_its_name():
    assert [split_number(SPLITS, split.name, "split", "G") for split in SPLITS] == [0, 1, 2, 3]
    assert split_number(SPLITS, None, "split", "G") == 2


def test_a_split_that_the_generator_lacks_is_refused():
    with pytest.raises(
        UserError,
        match=r"^split is 'b32', but G cannot be split there: it can before b4, b8, b16, rgb\.$",
    ):
        split_number(SPLITS, "b32", "split", "G")


@pytest.mark.parametrize(
    ("size", "classes", "message"),
    [
        (
            64,
            None,
            r"makes images of 64 pixels, but those of the dataset have 32: set data.init_args.image_size to 64",
        ),
        (32, 1000, r"knows 1000 classes, but the dataset has 10: .*\(classes\)"),
    ],
)
def test_other_sizes_and_classes_are_refused(size, classes, message):
    with pytest.raises(UserError, match=message):
        check_generator(size, classes, "G", 32, 10)


def test_what_fits_is_taken():
    check_generator(32, 10, "G", 32, 10)
    check_generator(32, None, "G", 32, 10)
