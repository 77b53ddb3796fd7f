"""Smoke runs: any configuration from end to end on tiny sizes, so that a long run does not fall over at its end."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from benchmarks.students.recipes import OWN, load_recipe
from ddoq.data import FewImages, ImageDataModule, LabelledData
from ddoq.errors import UserError
from ddoq.graphs.base import GraphData
from ddoq.smoke import Tiny
from ddoq.storage.run_folder import RunFolder

# `true` takes a few images of the configured dataset, `synthetic` coloured noise instead of them.
SmokeChoice = bool | Literal["synthetic"]

_PARTS = ("model", "prior", "teacher")  # what may be made of classes, beside the data
_STUDENT = {"arch": "convnet2-w8"}
_GRAPH_STUDENT = {"arch": "gcn", "kwargs": {"hidden": 8}}
_TOP_K = 1  # below any number of classes


def smoke_config(config: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Make a configuration tiny.

    Each class that it names says itself what makes it tiny, see :class:`ddoq.smoke.Tiny`; so do the classes among their
    arguments. Recipe, students, seeds, logging and output folder are changed here.

    Args:
        config: A whole resolved configuration as plain values, with ``smoke`` true or ``synthetic``.

    Returns:
        The changed configuration, and what the user is told of it, a line each.

    Raises:
        UserError: If there is no such recipe.
    """
    notes: list[str] = []
    changed = {**config, "data": _data(config, notes)}
    for key in _PARTS:
        changed[key] = _tiny(config.get(key), key, notes)
    output = str(RunFolder(Path(config["output"])).smoke)
    changed |= {
        "output": output,
        "students": [_GRAPH_STUDENT if _holds_graphs(config) else _STUDENT],
        "seeds": [0],
        "recipe": _recipe(config["recipe"]),
        "evaluation": _evaluation(config, notes),
        "wandb": {**config["wandb"], "mode": "disabled"},
    }
    head = f"smoke run: tiny sizes, so that every step is tried; nothing of it is a result. It writes to {output}."
    return changed, [head, *notes]


def _data(config: Mapping[str, Any], notes: list[str]) -> Any:
    """Take a few images of the dataset, or synthetic ones; those for a given set have its size and classes."""
    spec = config.get("data")
    if config["smoke"] == "synthetic":
        return _tiny(spec, "data", notes, replace_data=True)
    if not isinstance(spec, dict) or not issubclass(_load(spec["class_path"]), LabelledData):
        return spec
    if not issubclass(_load(spec["class_path"]), ImageDataModule):
        return _tiny(spec, "data", notes)
    whole = config.get("distilled") is not None
    source = spec if whole else _tiny(spec, "data", notes)
    arguments = {"source": source, **({"classes": None} if whole else {})}
    return {"class_path": _path(FewImages), "init_args": arguments}


def _tiny(value: Any, key: str, notes: list[str], *, replace_data: bool = False) -> Any:
    """Make tiny what a value says of classes, itself one or holding some."""
    if isinstance(value, list):
        return [_tiny(item, f"{key}.{index}", notes) for index, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    if not isinstance(value.get("class_path"), str):
        return {name: _tiny(item, f"{key}.{name}", notes) for name, item in value.items()}
    kind = _load(value["class_path"])
    given = value.get("init_args") or {}
    if not (isinstance(kind, type) and issubclass(kind, Tiny)):
        return value
    if kind.stand_in is not None and (replace_data or not issubclass(kind, LabelledData)):
        other = _load(kind.stand_in)
        notes.append(
            f"smoke run: {key} is a tiny {other.__name__} in the place of {kind.__name__}."
        )
        return {"class_path": kind.stand_in, "init_args": other.tiny(given)}
    inner = {name: _tiny(item, f"{key}.{name}", notes) for name, item in given.items()}
    return {"class_path": value["class_path"], "init_args": {**inner, **kind.tiny(inner)}}


def _recipe(choice: Mapping[str, Any]) -> dict[str, Any]:
    """Train for one epoch, without a warm-up, and store no more classes of a label than there are."""
    name, overrides = choice["name"], {**choice["overrides"], "epochs": 1}
    if name == OWN:  # known once its set is there; its labels do, too
        return {"name": name, "overrides": {**overrides, "warmup": 0}}
    recipe = load_recipe(name, choice["overrides"])
    if recipe.warmup != 0:
        overrides["warmup"] = 0
    if recipe.label_top_k > _TOP_K:
        overrides["label_top_k"] = _TOP_K
    return {"name": name, "overrides": overrides}


def _evaluation(config: Mapping[str, Any], notes: list[str]) -> Any:
    """Make short what is evaluated by transfer, on a few images of every target, and what learns from graphs."""
    options = config.get("evaluation") or {}
    graphs = {**(options.get("graphs") or {}), "epochs": 2}
    transfer = {**(options.get("transfer") or {}), "pretrain_epochs": 1, "iterations": 2}
    targets = transfer.get("targets") or []
    transfer["targets"] = [_data({**config, "data": target}, notes) for target in targets]
    return {**options, "transfer": transfer, "graphs": graphs}


def _holds_graphs(config: Mapping[str, Any]) -> bool:
    spec = config.get("data")
    kind = _load(spec["class_path"]) if isinstance(spec, dict) else None
    return isinstance(kind, type) and issubclass(kind, GraphData)


def _path(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _load(class_path: str) -> Any:
    module, _, name = class_path.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        raise UserError(f"The class {class_path} cannot be imported.") from None
