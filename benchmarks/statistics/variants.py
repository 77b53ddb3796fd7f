"""What tells rows of results apart that have kinds of their own."""

from collections.abc import Mapping
from typing import Any


def without_seeds(distilled: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return all settings of a distilled set but its seed.

    Args:
        distilled: What the configuration of a result says of its set; None without one.

    Example:
        >>> without_seeds({"seed": 1, "settings": {"seed": 1, "ipc": 2}, "fingerprint": "f"})
        {'settings': {'ipc': 2}}
        >>> without_seeds({"seed": None, "settings": None, "fingerprint": "f"})
        {'settings': None, 'fingerprint': 'f'}
    """
    kept = {name: value for name, value in (distilled or {}).items() if name != "seed"}
    settings = kept.get("settings")
    if settings is not None:  # else only its contents tell a set from another
        kept["settings"] = {name: value for name, value in settings.items() if name != "seed"}
        kept.pop("fingerprint", None)
    return kept
