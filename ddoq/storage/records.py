"""Records that grow: a field that is added later must not change the hash of what never used it."""

import dataclasses
from typing import Any


def hashed_fields(record: Any, first: int = 1) -> dict[str, Any]:
    """Return the values of a record as caches and results hash them.

    A field that came after the record's first format says so, ``field(default=..., metadata={"since": 2})``, with a
    default that changes nothing. It is left out wherever it has that default: a record that does not use it keeps its
    hash, and what was stored under this hash stays valid. That is the only rule for fields that are added later.

    Args:
        record: A dataclass; records inside it follow the same rule.
        first: The first format that counts; fields since a later one are left out at their default. Raising it together
            with a format that invalidates all hashes anyway brings them in for good.

    Returns:
        Values by field name, in the order of the fields.

    Raises:
        TypeError: If a later field has no default.

    Example:
        >>> @dataclasses.dataclass
        ... class Size:
        ...     width: int
        ...     depth: int = dataclasses.field(default=1, metadata={"since": 2})
        >>> hashed_fields(Size(3)), hashed_fields(Size(3, depth=2)), hashed_fields(Size(3), first=2)
        ({'width': 3}, {'width': 3, 'depth': 2}, {'width': 3, 'depth': 1})
    """
    values = {}
    for item in dataclasses.fields(record):
        value = getattr(record, item.name)
        if item.metadata.get("since", 1) > first and value == _default(item):
            continue
        is_record = dataclasses.is_dataclass(value) and not isinstance(value, type)
        values[item.name] = hashed_fields(value, first) if is_record else value
    return values


def _default(item: dataclasses.Field[Any]) -> Any:
    if item.default is not dataclasses.MISSING:
        return item.default
    if item.default_factory is not dataclasses.MISSING:
        return item.default_factory()
    raise TypeError(f"the field {item.name!r} came later and needs a default that changes nothing")
