from dataclasses import dataclass, field

import pytest

from ddoq.storage.fingerprints import hash_config
from ddoq.storage.records import hashed_fields


@dataclass
class First:
    name: str
    size: int = 3


@dataclass
class Second:
    name: str
    size: int = 3
    depth: int = field(default=1, metadata={"since": 2})
    options: dict[str, int] = field(default_factory=dict, metadata={"since": 3})


@dataclass
class Outer:
    inner: Second


def test_a_record_that_does_not_use_a_later_field_keeps_its_hash():
    assert hash_config(hashed_fields(Second("a"))) == hash_config(First("a"))
    assert hash_config(hashed_fields(Second("a", depth=2))) != hash_config(First("a"))


def test_a_field_of_the_first_format_is_hashed_at_its_default_too():
    assert hashed_fields(Second("a")) == {"name": "a", "size": 3}


def test_later_fields_appear_where_they_are_used_and_they_alone():
    assert hashed_fields(Second("a", options={"x": 1})) == {
        "name": "a",
        "size": 3,
        "options": {"x": 1},
    }


def test_a_later_first_format_brings_fields_in_for_good():
    assert hashed_fields(Second("a"), first=2) == {"name": "a", "size": 3, "depth": 1}
    assert "options" in hashed_fields(Second("a"), first=3)


def test_records_in_a_record_follow_the_rule():
    assert hashed_fields(Outer(Second("a"))) == {"inner": {"name": "a", "size": 3}}


def test_a_later_field_without_default_is_a_mistake_of_the_programmer():
    @dataclass
    class Wrong:
        depth: int = field(metadata={"since": 2})

    with pytest.raises(TypeError, match="'depth' came later"):
        hashed_fields(Wrong(1))
