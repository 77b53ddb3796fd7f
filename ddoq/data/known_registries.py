"""The registries of known datasets: ImageNet-1K and its parts, Tiny-ImageNet and CIFAR."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from ddoq.data.class_registry import ClassInfo, ClassRegistry
from ddoq.data.names import ClassNames, build_registry, wordnet_words
from ddoq.errors import UserError, suggest
from ddoq.storage.yaml_text import parse_yaml

_LISTS = Path(__file__).with_name("class_lists")
REGISTRIES = (
    "imagenet-1k",
    "imagenet-100",
    "imagenette",
    "imagewoof",
    "tiny-imagenet",
    "cifar10",
    "cifar100",
)
_IMAGENET = "imagenet-1k"

# What sources call a class besides its key, its name and its WordNet words. ILSVRC/imagenet-1k calls the second of the
# two cranes so; uoft-cs/cifar100 has a letter missing; others say which keyboard.
_ALIASES: dict[str, tuple[str, ...]] = {
    "n03126707": ("crane2",),
    "crab": ("cra",),
    "keyboard": ("computer_keyboard",),
}


def load_registry(
    registry: str, prompt: str = "a photo of a {name}", names: ClassNames = None
) -> ClassRegistry:
    """Return the classes of a known dataset in label order.

    Args:
        registry: One of ``REGISTRIES``.
        prompt: Template of the text prompts; see :func:`ddoq.data.names.build_registry`.
        names: Other names than the registry's own; see :func:`ddoq.data.names.build_registry`.

    Returns:
        The classes. Keys are WordNet ids for the ImageNet family and the dataset's own labels for CIFAR. The
        registry's own names differ from one another, and so do prompts.

    Raises:
        UserError: If there is no such registry, or the template or the names are wrong.

    Example:
        >>> load_registry("imagenet-1k")[134].prompt, load_registry("imagenet-1k")[517].prompt
        ('a photo of a crane bird', 'a photo of a construction crane')
    """
    known = _entries(registry)
    return build_registry(list(known), names, prompt, known)


@cache
def _entries(registry: str) -> Mapping[str, str]:
    """Read the keys of a registry with their names, in label order."""
    if registry not in REGISTRIES:
        raise UserError(f"Unknown registry {registry!r}. {suggest(registry, REGISTRIES)}")
    text = (_LISTS / f"{registry}.yaml").read_text(encoding="utf-8")
    content: dict[str, str] = parse_yaml(text, registry)
    return content


def imagenet_indices(registry: ClassRegistry) -> list[int]:
    """Return the number in ImageNet-1K of every class of a registry, in the registry's order.

    These numbers are what teachers and diffusion transformers trained on ImageNet-1K know classes by.

    Args:
        registry: Any registry whose keys are WordNet ids, whole or a part of one of ``REGISTRIES``.

    Returns:
        Numbers in 0..999, as many as there are classes.

    Raises:
        UserError: If a class is not among ImageNet-1K's; it names the first ones.

    Example:
        >>> imagenet_indices(load_registry("imagenette"))
        [0, 217, 482, 491, 497, 566, 569, 571, 574, 701]
    """
    numbers = {key: number for number, key in enumerate(_entries(_IMAGENET))}
    missing = [item for item in registry if item.key not in numbers]
    if missing:
        listed = _listed([f"{item.key} ({item.name})" for item in missing])
        raise UserError(
            f"{len(missing)} of {len(registry)} classes are not among the 1000 of ImageNet-1K: {listed}. Their keys "
            "must be WordNet ids such as n01440764: set `registry` on the dataset, or name the folders so."
        )
    return [numbers[key] for key in registry.keys]


def source_labels(registry: str, names: Sequence[str], where: str) -> list[int]:
    """Find the label in a source of every class of a registry, from what the source calls its labels.

    A source with as many classes as the registry must have them in the registry's order. One with more, such as the
    whole of ImageNet-1K for a part of it, may hold others as well.

    Args:
        registry: One of ``REGISTRIES``.
        names: What the source calls its labels, in its label order: WordNet ids, or names in words.
        where: What to call the source in errors.

    Returns:
        One label of the source a class, in the registry's order.

    Raises:
        UserError: If the source has other classes, or the same in another order; it names the first difference.
    """
    classes = load_registry(registry)
    if len(names) == len(classes):
        _check_order(registry, classes, names, where)
        return list(range(len(classes)))
    if set(classes.keys) <= set(names):
        return [list(names).index(key) for key in classes.keys]
    whole = _entries(_IMAGENET)
    if len(names) == len(whole) and set(classes.keys) <= set(whole):
        _check_order(_IMAGENET, load_registry(_IMAGENET), names, where)
        return imagenet_indices(classes)
    raise UserError(
        f"{where} has {len(names)} classes ({_listed(list(names))}), the registry {registry} has {len(classes)}. "
        "Name the registry of this dataset, or leave `registry` out."
    )


def check_folders(registry: str, folders: Sequence[str], where: Path) -> None:
    """Compare the class folders of a split with a registry.

    Folders of other ImageNet-1K classes are allowed, so that a part is read out of the whole.

    Args:
        registry: One of ``REGISTRIES``.
        folders: Names of the folders.
        where: The split, for errors.

    Raises:
        UserError: If folders are missing, or are none of a class.
    """
    entries, present = _entries(registry), set(folders)
    missing = [f"{key} ({name})" for key, name in entries.items() if key not in present]
    if missing:
        numbers = all(folder.isdecimal() for folder in folders)
        mend = (
            f" Its folders are numbers: whether number 0 is {next(iter(entries))} cannot be known. Name them by their "
            "keys, or leave `registry` out and give `class_names`."
            if numbers
            else " Complete the folder, or name the registry that it holds."
        )
        raise UserError(
            f"{where} has no folder for {len(missing)} of the {len(entries)} classes of {registry}: "
            f"{_listed(missing)}.{mend}"
        )
    whole = _entries(_IMAGENET)
    allowed = {*entries, *whole} if set(entries) <= set(whole) else set(entries)
    strangers = sorted(present - allowed)
    if strangers:
        raise UserError(
            f"{where} has folders that are no class of {registry}: {_listed(strangers)}. Move them away or correct "
            "their names."
        )


def _check_order(registry: str, classes: ClassRegistry, names: Sequence[str], where: str) -> None:
    synonyms = wordnet_words() if classes[0].key in _entries(_IMAGENET) else {}
    for item, name in zip(classes, names, strict=True):
        if _is_called(item, name, synonyms):
            continue
        owner = next((other for other in classes if _is_called(other, name, synonyms)), None)
        detail = (
            f", which is class {owner.index} there" if owner else ", which no class there is called"
        )
        raise UserError(
            f"{where} is not in the order of the registry {registry}: label {item.index} is {name!r}{detail}; class "
            f"{item.index} is {item.key} ({item.name}). Name the registry of this dataset, or leave `registry` out."
        )


def _is_called(item: ClassInfo, text: str, synonyms: Mapping[str, str]) -> bool:
    """Say whether a source may call a class so: by key, name, alias or any of its WordNet words."""
    known = {item.key, item.name, *_ALIASES.get(item.key, ())}
    words = synonyms.get(item.key, "")
    known |= {words, *words.split(", ")}
    folded = {_folded(each) for each in known if each}
    parts = [_folded(part) for part in text.split(",")]
    return _folded(text) in folded or (bool(words) and all(part in folded for part in parts))


def _folded(text: str) -> str:
    return "".join(letter for letter in text.casefold() if letter.isalnum())


def _listed(items: list[str]) -> str:
    return ", ".join(items[:5]) + (" ..." if len(items) > 5 else "")
