import pytest

from ddoq.errors import UserError
from ddoq.exchange.classes import ClassList
from ddoq.exchange.matching import classes_of, match_classes, numbers_of, padded

PETS = ClassList(["tabby cat", "dog", "crane"], ["n02", "n01", "n03"], "a list")
ELEVEN = ClassList([f"class {chr(97 + i)}" for i in range(11)], None, "a list")


@pytest.mark.parametrize(
    "folders",
    [
        ["n02", "n01", "n03"],
        ["tabby cat", "dog", "crane"],
        ["Tabby_Cat", "DOG", "crane"],
        ["00000", "00001", "00002"],  # RDED
        ["new000", "new001", "new002"],  # SRe2L
        ["class0", "class1", "class2"],
        ["0000_tabby_cat", "0001_dog", "0002_crane"],
        ["0000_tabby", "0001_dog", "0002_crane"],  # names cut short
    ],
)
def test_every_way_of_naming_folders(folders):
    shuffled = [folders[i] for i in (2, 0, 1)]
    labels = match_classes(shuffled, PETS, "here")
    assert [labels[name] for name in folders] == [0, 1, 2]


def test_order_on_disk_does_not_matter_for_keys():
    # Sorted as text n01 comes first, but its label is 1.
    assert match_classes(sorted(PETS.keys), PETS, "here") == {"n01": 1, "n02": 0, "n03": 2}


def test_a_number_before_the_wrong_name_is_refused():
    with pytest.raises(UserError, match="0000_dog"):
        match_classes(["0000_dog", "0001_tabby_cat", "0002_crane"], PETS, "here")


def test_unpadded_numbers_need_a_word():
    folders = sorted(map(str, range(11)))  # 0, 1, 10, 2, ...
    with pytest.raises(UserError, match="--numeric"):
        match_classes(folders, ELEVEN, "here")
    labels = match_classes(folders, ELEVEN, "here", numeric=True)
    assert all(labels[str(i)] == i for i in range(11))


def test_numbers_that_are_also_other_keys_are_ambiguous():
    swapped = ClassList(["one", "zero"], ["1", "0"], "a list")
    with pytest.raises(UserError, match="may be the class"):
        match_classes(["0", "1"], swapped, "here")
    assert match_classes(["0", "1"], swapped, "here", numeric=True) == {"0": 0, "1": 1}
    same = ClassList(["zero", "one"], ["0", "1"], "a list")
    assert match_classes(["0", "1"], same, "here") == {"0": 0, "1": 1}


def test_classes_of_one_name_are_told_apart_by_keys_only():
    cranes = ClassList(["crane", "crane"], ["n1", "n2"], "a list")
    assert match_classes(["n2", "n1"], cranes, "here") == {"n2": 1, "n1": 0}
    with pytest.raises(UserError, match="is no class"):
        match_classes(["crane"], cranes, "here")


@pytest.mark.parametrize(
    ("folders", "numeric", "message"),
    [
        (["tabby cat", "dgo"], False, "dgo is no class .* Did you mean 'dog'"),
        (["cow", "hen"], False, "cow, hen are no class"),
        (["00000", "00003"], False, "'00003' is no class .* from 0 to 2"),
        (["dog", "00001"], False, "no class"),
        (["new0", "class1"], True, "no number like the others"),
        (["dog"], True, "'dog' is no number"),
        (["1", "01"], True, "both class 1"),
        (["Tabby_Cat", "tabby cat"], False, "both class 0"),
    ],
)
def test_folders_that_fit_no_class(folders, numeric, message):
    with pytest.raises(UserError, match=message):
        match_classes(folders, PETS, "here", numeric=numeric)


def test_wordnet_ids_are_no_numbers():
    assert numbers_of(["n01440764", "n01443537"]) is None
    assert numbers_of(["-1"]) is None
    assert numbers_of(["Class_07"]) == {"Class_07": 7}
    assert padded(["new001", "new010"])
    assert not padded(["1", "10"])


def test_classes_from_folders_alone():
    named = classes_of(["dog", "tabby_cat"], "here")
    assert (named.names, named.keys) == (["dog", "tabby cat"], ["dog", "tabby_cat"])
    ours = classes_of(["0001_apple", "0000_zebra"], "here")
    assert ours.names == ["zebra", "apple"]
    assert classes_of(["00001", "00000"], "here").keys == ["00000", "00001"]
    numbers = list(map(str, range(11)))
    with pytest.raises(UserError, match="different lengths"):
        classes_of(numbers, "here")
    assert classes_of(sorted(numbers), "here", numeric=True).keys == numbers


@pytest.mark.parametrize(
    ("folders", "numeric", "message"),
    [
        (["00000", "00002"], False, "1 is missing"),
        (["00001", "00002"], False, "0 is missing"),
        (["0", "1", "01"], True, "there twice"),
        (["0001_a", "0002_b"], False, "0 is missing"),
        (["a", "b"], True, "no number"),
    ],
)
def test_gaps_in_numbers_shift_no_label(folders, numeric, message):
    with pytest.raises(UserError, match=message):
        classes_of(folders, "here", numeric=numeric)
