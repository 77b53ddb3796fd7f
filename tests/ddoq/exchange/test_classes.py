import json

import pytest

from ddoq.errors import UserError
from ddoq.exchange import export_set, read_class_list
from ddoq.exchange.classes import ClassList


@pytest.fixture
def written(tmp_path):
    def write(value):
        path = tmp_path / "classes.json"
        path.write_text(json.dumps(value))
        return path

    return write


def test_a_set_and_its_export_tell_the_same_classes(tmp_path, make_set):
    distilled = make_set()
    distilled.save(tmp_path / "set")
    export_set(distilled, tmp_path / "out", "parquet")
    for folder in ("set", "out"):
        classes = read_class_list(tmp_path / folder)
        assert classes.names == ["tabby cat", "dog", "crane"]
        assert classes.keys == ["n0", "n1", "n2"]


def test_lists_of_texts_and_of_objects(written):
    plain = read_class_list(written(["b", "a"]))
    assert (plain.names, plain.keys) == (["b", "a"], None)
    cranes = [{"key": "n1", "name": "crane"}, {"key": "n2", "name": "crane"}]
    both = read_class_list(written(cranes))
    assert (both.names, both.keys) == (["crane", "crane"], ["n1", "n2"])
    assert both.title(1) == "1 (n2, crane)"
    assert plain.title(0) == "0 (b)"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"0": "cat"}, "must hold a list"),
        ([], "lists no class"),
        (["cat", 3], "class 1 is called 3"),
        (["cat", " "], "class 1"),
        (["crane", "crane"], "two classes are called 'crane'"),
        ([{"key": "n1", "name": "a"}, {"key": "n1", "name": "b"}], "two classes are called 'n1'"),
        ([{"key": "n1"}], "class 0 must have a `key` and a `name`"),
        ([{"key": "n1", "name": "a"}, "b"], "class 1 must have"),
    ],
)
def test_unusable_lists_are_refused(written, value, message):
    with pytest.raises(UserError, match=message):
        read_class_list(written(value))


def test_other_files_are_refused(tmp_path):
    with pytest.raises(UserError, match="neither a distilled set"):
        read_class_list(tmp_path / "missing")
    with pytest.raises(UserError, match="does not exist"):
        read_class_list(tmp_path)
    (tmp_path / "metadata.json").write_text("{}")
    with pytest.raises(UserError, match="no distilled set"):
        read_class_list(tmp_path)


def test_empty_class_lists_are_refused():
    with pytest.raises(UserError, match="lists no class"):
        ClassList([], None, "a test")
