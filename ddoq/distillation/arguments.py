"""The arguments that a part of a run was constructed with: recorded, checked for their classes, written as settings."""

import dataclasses
import functools
import inspect
import types
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self, Union, get_args, get_origin, get_type_hints

from ddoq.bounds import check_finite
from ddoq.errors import UserError
from ddoq.smoke import Tiny
from ddoq.storage.fingerprints import plain
from ddoq.storage.records import hashed_fields


class Configured(Tiny):
    """A class whose constructor's arguments are recorded, since they decide what it makes and enter keys.

    The constructor lists its arguments by name (no ``*args``, no ``**kwargs``), also those that it hands on. An
    argument may be a value that JSON can hold, a dataclass of such values, or again an instance of such a class, whose
    class is then checked against the annotation.

    Attributes:
        added: Arguments that came later, with the values under which all is as it was without them. At these values they
            stay out of settings, so that older keys remain what they are: the rule that ``since`` is for the fields of
            dataclasses (:mod:`ddoq.storage.records`). Those of parent classes count as well.
        neutral: Arguments that change no bit of what is made, e.g. whether a cache is kept; they stay out always.
        arguments: Every argument of the constructor, as it was given or defaulted.
    """

    added: ClassVar[Mapping[str, Any]] = {}
    neutral: ClassVar[tuple[str, ...]] = ()
    arguments: dict[str, Any]

    def __init_subclass__(cls, **options: Any) -> None:
        """Refuse constructors whose arguments have no names."""
        super().__init_subclass__(**options)
        for parameter in _parameters(cls):
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                raise TypeError(
                    f"{cls.__name__}.__init__ must list its arguments by name instead of {parameter}: they are recorded"
                )

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Record the arguments, and refuse instances of a wrong class and numbers that are not finite among them."""
        instance = super().__new__(cls)
        signature = inspect.Signature(_parameters(cls))
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:  # the constructor says so itself; copying calls this without arguments
            return instance
        bound.apply_defaults()
        # Not by a plain assignment: torch modules take none before their own constructor has run.
        object.__setattr__(instance, "arguments", dict(bound.arguments))
        _check_classes(cls, instance.arguments)
        check_finite(cls.__name__, instance.arguments)
        return instance

    def settings(self) -> dict[str, Any]:
        """Return the arguments that decide what is made; instances as ``{class_path, init_args}``."""
        later = _collected(type(self), "added")
        neutral = _collected(type(self), "neutral")
        described = {k: describe(v) for k, v in self.arguments.items() if k not in neutral}
        return {
            name: value
            for name, value in described.items()
            if name not in later or plain(value) != plain(describe(later[name]))
        }

    def with_arguments(self, **changes: Any) -> Self:
        """Construct another one that differs in some arguments only."""
        return type(self)(**{**self.arguments, **changes})


def describe(value: Any) -> Any:
    """Write instances of :class:`Configured`, also inside of containers, as ``{class_path, init_args}``.

    Args:
        value: An argument.

    Returns:
        The same with every such instance replaced; class paths are short, as a configuration may write them.
    """
    if isinstance(value, Configured):
        return {"class_path": type(value).__name__, "init_args": value.settings()}
    if isinstance(value, Mapping):
        return {key: describe(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(describe(item) for item in value)
    return value


def hashed(value: Any) -> Any:
    """Write settings as keys hash them: dataclasses by :func:`ddoq.storage.records.hashed_fields`.

    Args:
        value: Settings, or a part of them.

    Returns:
        The same with every dataclass replaced by its fields, without those that came later and have their default.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return hashed_fields(value)
    if isinstance(value, Mapping):
        return {key: hashed(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [hashed(item) for item in value]
    return value


def instances(arguments: Mapping[str, Any]) -> Iterator[tuple[str, Configured]]:
    """Find the instances of :class:`Configured` among arguments, also those in lists, tuples and mappings.

    Args:
        arguments: Arguments by name.

    Yields:
        Name and instance, e.g. ``experts`` or ``parts.0``; not what the instances themselves hold.
    """
    for name, value in arguments.items():
        if isinstance(value, Configured):
            yield name, value
        elif isinstance(value, Mapping):
            yield from instances({f"{name}.{key}": item for key, item in value.items()})
        elif isinstance(value, (list, tuple)):
            yield from instances({f"{name}.{index}": item for index, item in enumerate(value)})


def _parameters(cls: type) -> list[inspect.Parameter]:
    """Return the parameters of a constructor, without ``self``."""
    if cls.__init__ is object.__init__:  # type: ignore[misc]
        return []
    return list(inspect.signature(cls.__init__).parameters.values())[1:]  # type: ignore[misc]


def _collected(cls: type, name: str) -> dict[str, Any]:
    """Merge what a class and its parents list in an attribute."""
    merged: dict[str, Any] = {}
    for parent in reversed(cls.__mro__):
        listed = vars(parent).get(name, {})
        merged |= listed if isinstance(listed, Mapping) else dict.fromkeys(listed)
    return merged


@functools.cache
def _expected_classes(cls: type) -> dict[str, tuple[type, ...]]:
    """Say which classes each class-typed argument may have, for annotations made of plain classes and None."""
    try:
        hints = get_type_hints(cls.__init__)  # type: ignore[misc]
    except NameError:  # an annotation that exists for type checkers only
        return {}
    expected = {}
    for name, hint in hints.items():
        union = get_origin(hint) in (Union, types.UnionType)
        kinds = get_args(hint) if union else (hint,)
        if all(
            type(kind) is not types.GenericAlias and isinstance(kind, type) for kind in kinds
        ) and (any(issubclass(kind, Configured) for kind in kinds)):
            expected[name] = kinds
    return expected


def _check_classes(cls: type, arguments: Mapping[str, Any]) -> None:
    for name, kinds in _expected_classes(cls).items():
        value = arguments.get(name)
        if name in arguments and not isinstance(value, kinds):
            wanted = " or ".join(kind.__name__ for kind in kinds if kind is not type(None))
            raise UserError(
                f"{cls.__name__}: the argument {name!r} must be of the class {wanted}, not {type(value).__name__}. "
                f"In YAML: {name}: {{class_path: {wanted.split()[0]}, init_args: {{...}}}}."
            )
