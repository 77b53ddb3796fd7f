"""What the options of a command line say of a configuration, whether by files or one by one."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.configuration.keys import RECORDS
from benchmarks.configuration.layers import CONFIG, read_layer
from benchmarks.configuration.parts import parse_value

_BARE = ("--print_config", "--help", "-h")  # options without a value


def overlay(arguments: Sequence[str], content: Mapping[str, Any]) -> list[str]:
    """Put a configuration behind all others, so that it wins.

    Args:
        arguments: What :func:`benchmarks.configuration.layers.expand` returned.
        content: The configuration; it extends no other.

    Returns:
        Arguments for the same parser.
    """
    between = [f"--{name}=[]" for name in RECORDS if name in content]
    return [*arguments, *between, f"--config={json.dumps(content)}"]


def read(arguments: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Read what each option says, in order.

    Args:
        arguments: What :func:`benchmarks.configuration.layers.expand` or :func:`overlay` returned.

    Yields:
        The file, or nothing for an option of its own, and what it says from the top-level key on: ``--recipe.name hard``
        says ``{"recipe": {"name": "hard"}}``.
    """
    for flag, value in split(arguments):
        content = parse_value(value, flag)
        if not flag:
            continue
        if flag not in CONFIG:
            for part in reversed(flag.lstrip("-").removesuffix("+").split(".")):
                content = {part: content}
            yield "", content
        elif isinstance(content, dict):  # an overlay
            yield "", content
        else:
            yield value, read_layer(Path(value))


def loose(arguments: Sequence[str]) -> list[str]:
    """List the arguments that belong to no option.

    Example:
        >>> loose(["--config", "a.yaml", "b.yaml"])
        ['b.yaml']
    """
    return [value for flag, value in split(arguments) if not flag]


def split(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Split arguments, ``--key=value`` or ``--key value``, into options and their values.

    Args:
        arguments: As typed.

    Yields:
        Option and value; the option is empty where a value belongs to none, the value where none follows.

    Example:
        >>> list(split(["-c", "a.yaml", "b.yaml", "--recipe.name=hard"]))
        [('-c', 'a.yaml'), ('', 'b.yaml'), ('--recipe.name', 'hard')]
    """
    rest = iter(arguments)
    for argument in rest:
        flag, equals, value = argument.partition("=")
        if not flag.startswith("-"):
            yield "", argument
        else:
            yield flag, value if equals or flag in _BARE else next(rest, "")
