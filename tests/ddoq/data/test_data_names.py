import json

import pytest

from ddoq.data.known_registries import load_registry
from ddoq.data.names import build_registry
from ddoq.errors import UserError

KEYS = ["n01443537", "n02012849", "n03126707"]
NAMES = ["goldfish", "crane", "crane"]


def build(names, keys=KEYS, prompt="a photo of a {name}"):
    return build_registry(keys, names, prompt)


def test_every_way_of_giving_names_agrees(tmp_path):
    pairs = dict(zip(KEYS, NAMES, strict=True))
    backwards = dict(reversed(pairs.items())) | {"n99999999": "never used"}
    (tmp_path / "list.json").write_text(json.dumps(NAMES))
    (tmp_path / "map.json").write_text(json.dumps(backwards))
    (tmp_path / "unix.txt").write_text("\n".join(NAMES))
    (tmp_path / "windows.txt").write_bytes("\ufeff".encode() + "\r\n".join([*NAMES, ""]).encode())
    files = [str(tmp_path / name) for name in ("list.json", "map.json", "unix.txt", "windows.txt")]
    registries = [build(names) for names in [NAMES, pairs, backwards, *files]]
    assert len({registry.fingerprint for registry in registries}) == 1
    assert registries[0].names == NAMES
    assert registries[0].prompts[2] == "a photo of a crane"
    assert registries[0].keys == KEYS


def test_keys_serve_as_names():
    registry = build(None, keys=["aquarium_fish", "ray"])
    assert registry.names == ["aquarium fish", "ray"]
    assert registry.keys == ["aquarium_fish", "ray"]


def test_names_in_another_order_are_noticed(tmp_path):
    alphabetical = ["apple", "aquarium_fish", "baby", "beaver"]
    assert (
        build(["apple", "Aquarium fish", "baby", "beaver"], keys=alphabetical).names[1]
        == "Aquarium fish"
    )
    (tmp_path / "superclasses.txt").write_bytes(b"beaver\r\naquarium fish\r\napple\r\nbaby\r\n")
    with pytest.raises(UserError, match=r"superclasses\.txt is in another order.*class 0 'beaver'"):
        build(str(tmp_path / "superclasses.txt"), keys=alphabetical)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["one", "two"], "2 names, but there are 3 classes"),
        (["one", " ", "three"], r"class 1 \(n02012849\) is ' '"),
        (["one", 2, "three"], "is 2, not a text"),
        ({"n01443537": "goldfish"}, "no name for 2 of 3 classes: n02012849"),
        ("nowhere.json", r"nowhere\.json does not exist"),
    ],
)
def test_mistakes_in_names(names, message):
    with pytest.raises(UserError, match=message):
        build(names)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("a.json", b'{"crane": "bird", "crane": "machine"}', "'crane' appears twice"),
        ("a.json", b"[1,", r"a\.json is not valid JSON"),
        ("a.json", b'"text"', "must hold a list of names or a mapping"),
        ("a.txt", b"a\n\nb\n", "class 1"),
        ("a.txt", b"\xff\xff", r"a\.txt cannot be read"),
    ],
)
def test_mistakes_in_files(tmp_path, file, content, message):
    (tmp_path / file).write_bytes(content)
    with pytest.raises(UserError, match=message):
        build(str(tmp_path / file))


def test_the_template_needs_its_place():
    with pytest.raises(UserError, match=r"lacks '\{name\}'"):
        build(None, prompt="a photo")
    assert build(["{x}", "b", "c"], prompt="{name}, {style}").prompts[0] == "{x}, {style}"


def test_synonyms_are_all_words_of_an_imagenet_label():
    classes = load_registry("imagenet-1k", "{synonyms}")
    assert classes[0].prompt == "tench, Tinca tinca"
    assert classes[217].prompt == "English springer, English springer spaniel"
    assert (classes[134].prompt, classes[517].prompt) == ("crane bird", "construction crane")
    assert len(set(classes.prompts)) == 1000
    assert classes.fingerprint == load_registry("imagenet-1k").fingerprint
    assert build_registry(["ray"], None, "{name}, {synonyms}").prompts == ["ray, ray"]
