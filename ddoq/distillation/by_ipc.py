"""Settings of methods that depend on the number of images per class, as papers list them."""

from collections.abc import Mapping
from typing import TypeVar

from ddoq.errors import UserError

_Value = TypeVar("_Value")


def by_ipc(setting: _Value | Mapping[int, _Value], ipc: int, key: str) -> _Value:
    """Look up a setting that is one value, or a table of values by images per class.

    Args:
        setting: The value, or values by the least number of images per class that they are for.
        ipc: Images per class.
        key: What the setting is called, for the message.

    Returns:
        The value itself, or the entry with the largest number that is not above ``ipc``.

    Raises:
        UserError: If a table has no entry for so few images.

    Example:
        >>> [by_ipc({1: 1.0, 100: 10.0}, ipc, "lr") for ipc in (1, 99, 100)]
        [1.0, 1.0, 10.0]
    """
    if not isinstance(setting, Mapping):
        return setting
    starts = [start for start in setting if start <= ipc]
    if not starts:
        raise UserError(
            f"{key} has no entry for {ipc} images per class: its table starts at {min(setting, default='nothing')}. "
            f"Add one, e.g. 1: ..., or give one value for all."
        )
    return setting[max(starts)]
