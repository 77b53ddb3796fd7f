"""The configuration behind a result, as far as another machine can use it."""

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

# What decides numbers; students and seed are the cell's own.
_KEYS = (
    "seed_everything",
    "model",
    "data",
    "prior",
    "teacher",
    "recipe",
    "evaluation",
    "distilled",
)
_TRAINER = ("accelerator", "precision")
LEFT_OUT = "<a place on the machine of the run>"


def rerun_config(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Take from a whole configuration what a result keeps of it.

    Places are left out, since results are shared: text that is an absolute path, or begins at a home, becomes :data:`LEFT_OUT`.

    Args:
        config: The whole resolved configuration of a run.

    Returns:
        Its keys that decide numbers; None where there is no configuration.
    """
    kept = {key: config[key] for key in _KEYS if config.get(key) is not None}
    if not kept:
        return None
    trainer = config.get("trainer") or {}
    kept["trainer"] = {key: trainer[key] for key in _TRAINER if trainer.get(key) is not None}
    without: dict[str, Any] = _without_places(kept)
    return without


def rerun_config_of_graphs(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Do as :func:`rerun_config`, and leave out what acts on images alone, which a run on graphs refuses."""
    trainer = {k: v for k, v in (config.get("trainer") or {}).items() if k != "precision"}
    kept = {key: value for key, value in config.items() if key != "recipe"}
    return rerun_config({**kept, "trainer": trainer}) if kept else None


def places_left_out(config: Any, prefix: str = "") -> Iterator[str]:
    """Name the keys of a kept configuration whose values were places, e.g. ``data.init_args.root``."""
    items = config.items() if isinstance(config, Mapping) else enumerate(config)
    for key, value in items:
        if value == LEFT_OUT:
            yield f"{prefix}{key}"
        elif isinstance(value, (Mapping, list)):
            yield from places_left_out(value, f"{prefix}{key}.")


def _without_places(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_places(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_places(item) for item in value]
    return LEFT_OUT if isinstance(value, str) and _is_place(value) else value


def _is_place(text: str) -> bool:
    absolute = PurePosixPath(text).is_absolute() or PureWindowsPath(text).is_absolute()
    return absolute or text.startswith("~")
