"""Recipes by name: those that ship with the suite, files of the user's, and those that come with sets."""

import functools
from collections.abc import Mapping
from dataclasses import fields, replace
from importlib import resources
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser, Namespace

from benchmarks.students.plan import Plan
from benchmarks.students.recipe import Recipe
from ddoq.decoding.form import SetRecipe
from ddoq.errors import UserError, suggest
from ddoq.storage.yaml_text import parse_yaml, read_text

__all__ = ["OWN", "Plan", "Recipe", "check_recipe", "load_recipe", "own_recipe", "recipe_names"]

OWN = "own"  # the name under which a configuration asks for the recipe that came with a set

# What values may look like that jsonargparse, which tries one form after the other, would not say in a few words.
_FORMS = {
    "epochs": "a whole number, or a table such as {1: {1: 3000, 10: 2000}} by classes and images per class",
    "batch_size": "a whole number, or a table such as {1: {1: 10, 10: 50}} by classes and images per class",
    "warmup": "a whole number, or a table such as {1: {1: 500, 50: 100}} by classes and images per class",
    "crop_scale": "two numbers, or a table such as {1: [1, 1], 128: [0.5, 1]} by the side of the images",
    "test_resize": "a table such as {224: 256} by the side of the images",
}

# `name` comes from the file's name and `changed` from the overrides.
_KEYS = [item.name for item in fields(Recipe) if item.name not in ("name", "changed")]


def recipe_names() -> list[str]:
    """List the recipes that come with the suite.

    Example:
        >>> recipe_names()
        ['dc', 'dsa', 'frepo', 'hard', 'hard_idc', 'rded', 'sre2l', 'sre2l_cifar', 'sre2l_tiny', 'unified']
    """
    files = resources.files("benchmarks.students").joinpath("recipe_files").iterdir()
    return sorted(Path(file.name).stem for file in files if file.name.endswith(".yaml"))


def load_recipe(name_or_path: str, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Read a recipe and change some of its values.

    Args:
        name_or_path: One of :func:`recipe_names`, or the path of a YAML file.
        overrides: Values by field name.

    Returns:
        The recipe; its label lists the values that differ from the file's.

    Raises:
        UserError: If there is no such recipe, or a key is unknown or missing, or a value is wrong.

    Example:
        >>> load_recipe("unified", {"epochs": 60, "flip": False}).label
        'unified[epochs=60,flip=False]'
    """
    if name_or_path == OWN:
        raise UserError(
            f"The recipe {OWN!r} comes with a distilled set and is known once that is there: name another one here."
        )
    if name_or_path in recipe_names():
        source = f"recipe {name_or_path!r}"
        base = _shipped(name_or_path)
    else:
        source = name_or_path
        text = _read(name_or_path)
        base = _build(Path(name_or_path).stem, _parse_yaml(text, source), source)
    if not overrides:
        return base
    values = {key: getattr(base, key) for key in _KEYS}
    recipe = _build(base.name, {**values, **overrides}, f"the overrides of {source}")
    changed = tuple(key for key in _KEYS if getattr(recipe, key) != getattr(base, key))
    return replace(recipe, changed=tuple(sorted(changed)))


def check_recipe(name: str, overrides: Mapping[str, Any]) -> None:
    """Refuse a choice of recipe that cannot be right, as far as that shows before there is a distilled set.

    Args:
        name: As for :func:`load_recipe`, or ``own``.
        overrides: Values by field name.

    Raises:
        UserError: If there is no such recipe, or an override is wrong.
    """
    if name == OWN:
        _check_fields(overrides, "recipe.overrides")
    else:
        load_recipe(name, overrides)


def own_recipe(
    recipe: SetRecipe | None, overrides: Mapping[str, Any] | None = None, where: object = "The set"
) -> Recipe:
    """Read the recipe that came with a set, by which its authors train students.

    Args:
        recipe: Of the set.
        overrides: Values that differ from it, by field name.
        where: What the set is called in errors.

    Returns:
        The recipe, named as the one that it builds on.

    Raises:
        UserError: If the set has none, or has one that this version does not know.

    Example:
        >>> own_recipe(SetRecipe("dsa", {"lr": "set"}, lr=0.02), {"epochs": 60}).label
        'dsa[epochs=60,lr=set]'
    """
    if recipe is None:
        raise UserError(
            f"{where} came without a recipe of its own: give recipe.name one of {', '.join(recipe_names())}."
        )
    return load_recipe(recipe.name, {**recipe.overrides, **(overrides or {})})


def _read(name: str) -> str:
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        raise UserError(
            f"There is no recipe {name!r}. {suggest(name, recipe_names())} Or give the path of a .yaml file."
        )
    return read_text(path, "recipe")


def _parse_yaml(text: str, source: str) -> dict[str, Any]:
    values = parse_yaml(text, source)
    if not isinstance(values, dict):
        raise UserError(f"{source} must be a mapping of keys to values.")
    return values


@functools.cache
def _shipped(name: str) -> Recipe:
    """Read a recipe that comes with the suite; every run asks for its own several times."""
    file = resources.files("benchmarks.students").joinpath("recipe_files", f"{name}.yaml")
    source = f"recipe {name!r}"
    return _build(name, _parse_yaml(file.read_text(encoding="utf-8"), source), source)


@functools.cache
def _parser() -> ArgumentParser:
    """Build the parser of recipes, which takes longer than to parse one."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Recipe, skip={"name", "changed"})
    return parser


def _build(name: str, values: Mapping[str, Any], source: str) -> Recipe:
    _check_fields(values, source)
    try:
        parsed = _parser().parse_object(Namespace(**values))
    except ArgumentError as error:
        for key, form in _FORMS.items():
            if f'key "{key}"' in str(error):
                raise UserError(f"{source}: {key} must be {form}, not {values[key]!r}.") from None
        raise UserError(f"{source}: {error}") from None
    return Recipe(name=name, **{key: parsed[key] for key in _KEYS})


def _check_fields(values: Mapping[str, Any], source: str) -> None:
    for key in values:
        if key not in _KEYS:
            raise UserError(f"{source}: unknown key {key!r}. {suggest(str(key), _KEYS)}")
        if values[key] is None:  # which the parser takes for any type
            raise UserError(f"{source}: {key} must not be null; leave it out instead.")
