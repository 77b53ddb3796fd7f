"""YAML that a plain loader would take without a word, or would not survive."""

import pytest

from ddoq.errors import UserError
from ddoq.storage.yaml_text import parse_yaml, read_text

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(8)
)
CHAIN = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 3000))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "my.yaml, line 3: the key 'a' is there twice (first in line 1)"),
        ("m:\n  - {x: 1, y: {z: 1, 'z': 2}}\n", "my.yaml, line 2: the key 'z' is there twice"),
        ("a: &b {c: 1}\nd: {<<: *b, <<: *b}\n", "my.yaml, line 2: the key '<<' is there twice"),
        ("a: " + "[" * 5000 + "]" * 5000, "my.yaml, line 1: nested more than 100 levels deep"),
        ("a: " + "[" * 5000, "my.yaml, line 1: nested more than 100 levels deep"),
        ("a: " + "{b: " * 200 + "1" + "}" * 200, "nested more than 100 levels deep"),
        (LAUGHS, "more than 200,000 values or 100 levels once its aliases (*) are written out"),
        (CHAIN, "more than 200,000 values or 100 levels once its aliases (*) are written out"),
        ("a: &l [1, *l]", "my.yaml: `a.1` is inside of itself"),
        ("a: [1\nb", "my.yaml is not valid YAML: line "),
        ("a: 1\n---\nb: 2", "my.yaml is not valid YAML: line 2"),
        ("a: *b", "is not valid YAML: line 1, column 4: found undefined alias"),
        ("? [a, {b: 1}]\n: 1", "is not valid YAML: line 1"),
        ("a: !!python/object:os.system x", "is not valid YAML: line 1"),
        ("a: !!int x", "is not valid YAML"),
        ("a: " + "9" * 5000, "is not valid YAML"),
        ('a: "\\ud800"', "my.yaml"),  # what it says depends on whether PyYAML was built with libyaml
        ('a: "b\\0c"', "is no text that UTF-8 holds"),
        ("a: \x07", "is not valid YAML"),
    ],
)  # fmt: skip
def test_what_is_refused(text, message):
    with pytest.raises(UserError) as error:
        parse_yaml(text, "my.yaml")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_read_as_ever():
    text = (
        "a: &x {b: 1, c: [1.5, null, on]}\nd: {<<: *x, b: 2}\n1: x\n'1': y\ne: 2001-01-01\nf: 1e-3"
    )
    assert parse_yaml(text, "my.yaml") == {
        "a": {"b": 1, "c": [1.5, None, True]},
        "d": {"b": 2, "c": [1.5, None, True]},
        1: "x",
        "1": "y",
        "e": "2001-01-01",
        "f": "1e-3",
    }
    assert parse_yaml("", "my.yaml") is None
    assert parse_yaml("a: &x [1]\nb: [*x, *x]", "my.yaml") == {"a": [1], "b": [[1], [1]]}


def test_files_that_cannot_be_read_are_told_in_a_line(tmp_path):
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("a: 1\nname: Bücher\n".encode("latin-1"))
    large = tmp_path / "large.yaml"
    large.write_bytes(b"#" * (4 * 2**20 + 1))
    for path, message in (
        (latin, "latin.yaml is not valid YAML: line 2 is not UTF-8"),
        (large, "large.yaml has 4,194,305 bytes, more than 4,194,304"),
        (tmp_path, "is a folder; name a YAML file"),
        (tmp_path / "none.yaml", "The recipe .*none.yaml does not exist here"),
        (tmp_path / ("x" * 300), "cannot be read: "),
        (tmp_path / "a\0b", "(cannot be read|does not exist)"),
    ):
        with pytest.raises(UserError, match=message):
            read_text(path, "recipe", " here")
