"""Odd values that are legal in their place, with the reason: all else that is accepted counts as silence."""

import fnmatch
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Legal:
    """Values that some keys take although they look wrong.

    Attributes:
        keys: Patterns of dotted keys.
        accepts: Says whether a value is meant.
        values: The values in words.
        why: Why they are legal.
    """

    keys: tuple[str, ...]
    accepts: Callable[[Any], bool]
    values: str
    why: str


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _text(value: Any) -> bool:
    return isinstance(value, str)


TABLE: tuple[Legal, ...] = (
    Legal(
        ("*",),
        lambda value: value is None,
        "null",
        "keys whose type has no null refuse it; elsewhere it means all images, the dataset's own value, or that a part is left out",
    ),
    Legal(
        ("*.kwargs", "*.lr_by_arch", "wandb"),
        lambda value: value == {},
        "{}",
        "mappings may be empty",
    ),
    Legal(
        ("*.batch_size", "*.limit_per_class", "*.test_limit_per_class"),
        lambda value: _number(value) and value > 1,
        "more than there are images",
        "all images: neither a batch nor a limit is larger than what it is of",
    ),
    Legal(
        ("recipe.overrides.label_top_k",),
        lambda value: value == 0,
        "0",
        "keeps all classes",
    ),
    Legal(("recipe.overrides.momentum",), lambda value: value == 0, "0", "no momentum"),
    Legal(
        ("model.init_args.lr.*", "model.init_args.iterations.*"),
        lambda value: True,
        "anything",
        "rows of a table that is for other budgets; a row is checked where it is used",
    ),
    Legal(("smoke", "force"), lambda value: value is True, "true", "asks for what it says"),
    Legal(("report", "output"), _text, "any text", "the name of a file or folder"),
    Legal(
        ("wandb.group", "wandb.entity", "wandb.project"),
        lambda value: value is None or _text(value),
        "any text, null",
        "names that only W&B reads",
    ),
)


def reason(key: str, value: Any) -> str | None:
    """Return why a value is legal at a key; None where nothing says so."""
    for item in TABLE:
        if any(fnmatch.fnmatch(key, pattern) for pattern in item.keys) and item.accepts(value):
            return item.why
    return None
