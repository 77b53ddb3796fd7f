"""Readable class names from files or lists, checked against the keys of a dataset."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from ddoq.data.class_registry import ClassRegistry
from ddoq.errors import UserError

ClassNames = str | list[str] | dict[str, str] | None

_PROMPT = "a photo of a {name}"


def build_registry(
    keys: Sequence[str],
    names: ClassNames,
    prompt: str,
    usual: Mapping[str, str] | None = None,
) -> ClassRegistry:
    """Join the keys of a dataset with readable names and prompts.

    Args:
        keys: Keys in label order.
        names: A list in label order, a mapping from key to name, the path of a JSON file with either or of a
            text file with a name a line, or None: the usual names.
        prompt: Template of the text prompts; ``{name}`` stands for the name, ``{synonyms}`` for :func:`label_texts`.
        usual: Names by key where none are given; the keys, underscores read as spaces, where omitted.

    Returns:
        The classes in the order of ``keys``.

    Raises:
        UserError: If names are missing or empty, if their number is wrong, if they name the keys in another
            order, or if the template lacks ``{name}``.

    Example:
        >>> build_registry(["ray", "aquarium_fish"], None, "a photo of a {name}").prompts
        ['a photo of a ray', 'a photo of a aquarium fish']
    """
    if "{name}" not in prompt and "{synonyms}" not in prompt:
        raise UserError(
            f"prompt: {prompt!r} lacks '{{name}}', where the name of the class goes, and '{{synonyms}}', where all names "
            "that ImageNet has for it go."
        )
    where = names if isinstance(names, str) else "class_names"
    given = _read(Path(names).expanduser()) if isinstance(names, str) else names
    known = [key.replace("_", " ") if usual is None else usual[key] for key in keys]
    if given is None:
        given = known
    if isinstance(given, Mapping):
        missing = [key for key in keys if key not in given]
        if missing:
            listed = ", ".join(missing[:5]) + (" ..." if len(missing) > 5 else "")
            raise UserError(
                f"{where} has no name for {len(missing)} of {len(keys)} classes: {listed}."
            )
        given = [given[key] for key in keys]
    if len(given) != len(keys):
        raise UserError(
            f"{where} has {len(given)} names, but there are {len(keys)} classes. "
            f"A mapping from key to name ({keys[0]}: ...) may hold more names than are needed."
        )
    _check(where, keys, given)
    cleaned = [name.strip() for name in given]
    prompts = [prompt.replace("{name}", name) for name in cleaned]
    if "{synonyms}" in prompt:
        texts = label_texts(keys, cleaned)
        prompts = [p.replace("{synonyms}", text) for p, text in zip(prompts, texts, strict=True)]
    usual_prompts = [_PROMPT.replace("{name}", name) for name in known]
    unnamed = ClassRegistry(keys, known, usual_prompts)
    renamed = (cleaned, prompts) != (known, usual_prompts)
    return ClassRegistry(keys, cleaned, prompts, unnamed if renamed else None)


def label_texts(keys: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return what ImageNet's list of labels says of classes: all words of a synset, separated by commas.

    Args:
        keys: WordNet ids or other keys.
        names: What stands for a class that is none of ImageNet-1K's, or whose words are another's, too (both cranes).

    Returns:
        One text a class.

    Example:
        >>> label_texts(["n01440764", "n02012849", "cat"], ["tench", "crane bird", "cat"])
        ['tench, Tinca tinca', 'crane bird', 'cat']
    """
    words = wordnet_words()
    count = Counter(words.values())
    known = [words.get(key, "") for key in keys]
    return [text if count[text] == 1 else name for text, name in zip(known, names, strict=True)]


@cache
def wordnet_words() -> dict[str, str]:
    """Return the words of every ImageNet-1K synset, comma-separated, as timm ships them."""
    from timm.data import ImageNetInfo

    descriptions: dict[str, str] = ImageNetInfo("imagenet-1k").label_descriptions(as_dict=True)
    return descriptions


def _check(where: str, keys: Sequence[str], names: Sequence[Any]) -> None:
    owners = {_folded(key): index for index, key in enumerate(keys)}
    for index, (key, name) in enumerate(zip(keys, names, strict=True)):
        if not isinstance(name, str) or not name.strip():
            raise UserError(f"{where}: the name of class {index} ({key}) is {name!r}, not a text.")
        # D4M ships CIFAR-100 names in super-class order: nearly every image got a wrong prompt.
        if owners.get(_folded(name), index) != index and _folded(name) != _folded(key):
            raise UserError(
                f"{where} is in another order than the labels: it calls class {index} {name.strip()!r}, "
                f"but class {index} is {key!r} and class {owners[_folded(name)]} is {name.strip()!r}."
            )


def _folded(text: str) -> str:
    return "".join(letter for letter in text.casefold() if letter.isalnum())


def _read(path: Path) -> list[Any] | dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"class_names: {path} does not exist.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"class_names: {path} cannot be read ({error}).") from None
    if path.suffix != ".json":
        return text.rstrip().splitlines()

    def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        mapping = dict(pairs)
        if len(mapping) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = sorted({key for key in mapping if keys.count(key) > 1})
            raise UserError(f"{path}: the key {twice[0]!r} appears twice.")
        return mapping

    try:
        value = json.loads(text, object_pairs_hook=distinct)
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not valid JSON ({error}).") from None
    if not isinstance(value, (list, dict)):
        raise UserError(f"{path} must hold a list of names or a mapping from key to name.")
    return value
