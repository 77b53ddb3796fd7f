import pytest

from ddoq.data.class_registry import ClassRegistry
from ddoq.errors import UserError


def test_two_cranes_stay_two_classes():
    registry = ClassRegistry(["n02012849", "n03126707"], names=["crane", "crane"])
    assert [item.index for item in registry] == [0, 1]
    assert registry.names == ["crane", "crane"]
    assert registry.index_of("n03126707") == 1


def test_a_key_twice_is_refused():
    with pytest.raises(UserError, match="appear twice: crane, maillot"):
        ClassRegistry(["maillot", "crane", "maillot", "crane", "cat"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"keys": []}, "at least one class"),
        ({"keys": ["a", "b"], "names": ["x"]}, "2 classes, but 1 class names"),
        ({"keys": ["a"], "prompts": ["x", "y"]}, "1 classes, but 2 class prompts"),
    ],
)
def test_lengths_are_checked(arguments, message):
    with pytest.raises(UserError, match=message):
        ClassRegistry(**arguments)


def test_order_is_the_order_given():
    registry = ClassRegistry(["zebra", "10", "ant", "2"])
    assert registry.keys == ["zebra", "10", "ant", "2"]
    assert [registry[i].key for i in range(4)] == registry.keys
    assert [registry.index_of(key) for key in registry.keys] == [0, 1, 2, 3]
    assert registry.prompts == registry.names == registry.keys
    assert [item.key for item in registry[1:3]] == ["10", "ant"]


def test_an_unknown_key_is_named():
    with pytest.raises(UserError, match="'dog'"):
        ClassRegistry(["cat"]).index_of("dog")


def test_fingerprint_sees_keys_names_prompts_and_order():
    rows = [
        ClassRegistry(["a", "b"]),
        ClassRegistry(["b", "a"]),
        ClassRegistry(["a", "b"], names=["x", "b"]),
        ClassRegistry(["a", "b"], prompts=["x", "b"]),
        ClassRegistry(["a"]),
    ]
    assert len({registry.fingerprint for registry in rows}) == len(rows)
    assert ClassRegistry(["a", "b"]).fingerprint == rows[0].fingerprint
