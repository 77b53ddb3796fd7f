import copy
from dataclasses import dataclass, field
from typing import ClassVar

import lightning as L
import pytest

from ddoq.distillation.arguments import Configured, describe, hashed, instances
from ddoq.errors import UserError
from ddoq.storage.fingerprints import canonical_json, hash_config


@dataclass(frozen=True)
class Options:
    rate: float = 0.1


class Part(Configured):
    added: ClassVar = {"late": 0}

    def __init__(self, size: int, late: int = 0) -> None:
        self.size = size


class Sharper(Part):
    added: ClassVar = {"rho": 0.0}

    def __init__(self, size: int, late: int = 0, rho: float = 0.0) -> None:
        super().__init__(size, late)


class Other(Configured):
    pass


class Whole(L.LightningModule, Configured):
    neutral = ("cache",)

    def __init__(
        self,
        part: Part,
        parts: list[Part] | None = None,
        maybe: Part | None = None,
        options: Options = Options(),
        cache: bool = True,
    ) -> None:
        super().__init__()
        self.part = part


def test_arguments_are_recorded_as_given_or_defaulted():
    part = Part(3)
    whole = Whole(part, cache=False)
    assert whole.arguments == {
        "part": part,
        "parts": None,
        "maybe": None,
        "options": Options(),
        "cache": False,
    }
    assert Other().arguments == {}


def test_instances_are_written_as_a_configuration_would_write_them():
    whole = Whole(Part(3), parts=[Part(4), Sharper(5, rho=0.5)])
    assert whole.settings() == {
        "part": {"class_path": "Part", "init_args": {"size": 3}},
        "parts": [
            {"class_path": "Part", "init_args": {"size": 4}},
            {"class_path": "Sharper", "init_args": {"size": 5, "rho": 0.5}},
        ],
        "maybe": None,
        "options": Options(),
    }
    assert '"options":{"rate":0.1}' in canonical_json(whole.settings())


def test_what_came_later_enters_only_where_it_is_used():
    assert Part(1, late=0).settings() == {"size": 1}
    assert Part(1, late=2).settings() == {"size": 1, "late": 2}
    assert Sharper(1).settings() == {"size": 1}  # parents' later arguments count as well
    assert Sharper(1, late=2, rho=1.0).settings() == {"size": 1, "late": 2, "rho": 1.0}


def test_what_changes_no_bit_never_enters():
    assert "cache" not in Whole(Part(1), cache=False).settings()


def test_the_same_with_other_arguments():
    whole = Whole(Part(1), options=Options(0.5))
    other = whole.with_arguments(maybe=Part(2))
    assert type(other) is Whole
    assert other.arguments == {**whole.arguments, "maybe": other.arguments["maybe"]}
    assert other.part is whole.part


def test_copies_keep_the_record():
    whole = Whole(Part(1), cache=False)
    assert copy.deepcopy(whole).settings() == whole.settings()


def test_later_fields_of_dataclasses_follow_the_same_rule():
    @dataclass(frozen=True)
    class Grown(Options):
        depth: int = field(default=1, metadata={"since": 2})

    whole = Whole(Part(1), options=Grown())
    assert hash_config(hashed(whole.settings())) == hash_config(Whole(Part(1)).settings())
    deep = Whole(Part(1), parts=[Part(1)], options=Grown(depth=2))
    assert hashed(deep.settings())["options"] == {"rate": 0.1, "depth": 2}
    assert hashed({"x": [Options(0.5)]}) == {"x": [{"rate": 0.5}]}


def test_instances_are_found_by_name():
    part, other = Part(1), Part(2)
    given = {"a": 1, "b": part, "c": [other, 3], "d": {"e": part}}
    assert list(instances(given)) == [("b", part), ("c.0", other), ("d.e", part)]
    assert describe({"x": (other,)}) == {
        "x": ({"class_path": "Part", "init_args": {"size": 2}},),
    }


@pytest.mark.parametrize("wrong", [Other(), 3, Part, None])
def test_a_wrong_class_is_refused(wrong):
    with pytest.raises(UserError, match=r"Whole: the argument 'part' must be of the class Part"):
        Whole(wrong)


def test_an_optional_part_may_be_none_but_no_other_class():
    assert Whole(Part(1), maybe=None).settings()["maybe"] is None
    with pytest.raises(UserError, match=r"'maybe' must be of the class Part, not Other\. In YAML"):
        Whole(Part(1), maybe=Other())


def test_missing_arguments_are_python_s_own_error():
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'part'"):
        Whole()


def test_constructors_name_their_arguments():
    with pytest.raises(TypeError, match=r"Loose\.__init__ must list its arguments by name"):

        class Loose(Part):
            def __init__(self, **kwargs):
                super().__init__(**kwargs)
