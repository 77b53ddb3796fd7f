"""Make jsonargparse's messages short, and name the nearest valid class or key."""

import dataclasses
import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any, get_args, get_type_hints

from ddoq.errors import suggest

_TOP_LEVEL = (
    *("data", "model", "prior", "teacher", "trainer", "students", "seeds", "recipe", "wandb"),
    *("output", "distilled", "force", "report", "extends", "seed_everything", "config"),
)
_NOISE = (
    "Does not validate against any of",
    "Subtypes:",
    "Errors:",
    "Given value",
    "Expected a path but",
)


def _load(class_path: str) -> Any:
    module, _, name = class_path.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        return None


def concrete_subclasses(base: type) -> Iterator[type]:
    """Iterate over the classes below ``base`` that can be instantiated."""
    children: list[type] = base.__subclasses__()
    for child in children:
        if not inspect.isabstract(child):
            yield child
        yield from concrete_subclasses(child)


def _base_of(key: str) -> type | None:
    from ddoq.data import ImageDataModule
    from ddoq.distillation.distiller import Distiller
    from ddoq.priors import PriorSource
    from ddoq.teachers import TeacherSource

    bases: dict[str, Any] = {
        "model": Distiller,
        "data": ImageDataModule,
        "prior": PriorSource,
        "teacher": TeacherSource,
    }
    return bases.get(key.split(".")[0])


def _dataclass_in(annotation: Any) -> type | None:
    for candidate in (annotation, *get_args(annotation)):
        if dataclasses.is_dataclass(candidate) and isinstance(candidate, type):
            return candidate
    return None


def parameters(owner: Any) -> dict[str, Any]:
    """Return the names of a class's ``__init__`` parameters with their annotations."""
    if owner is None:
        return {}
    names = [name for name in inspect.signature(owner.__init__).parameters if name != "self"]
    try:
        hints = get_type_hints(owner.__init__)
    except NameError:
        hints = {}
    return {name: hints.get(name) for name in names}


def _valid_names(owner: Any, groups: list[str]) -> list[str]:
    for group in groups:
        owner = _dataclass_in(parameters(owner).get(group))
    return list(parameters(owner))


def _owner(message: str) -> tuple[Any, str]:
    named = re.findall(r"class_path '([\w.]+)'", message)
    return (_load(named[-1]), f" of {named[-1].rpartition('.')[2]}") if named else (None, "")


def _hint(message: str) -> str:
    key = re.search(r'Parser key "([\w.]+)"', message)
    unknown = re.search(r"Expected a dot import path string: (\S+)", message) or re.search(
        r"(?:No|Unable to|not a subclass).*?'(\w+)'", message
    )
    base = _base_of(key.group(1)) if key else None
    if unknown and base is not None:
        name = unknown.group(1).rpartition(".")[2]
        known = [child.__name__ for child in concrete_subclasses(base)]
        return f"Unknown class {unknown.group(1)!r} for `{key and key.group(1)}`. {suggest(name, known)}"
    owner, of = _owner(message)
    wrong = (
        re.search(r"Group '([\w.]+)' does not accept option '([\w.]+)'", message)
        or re.search(r"()Option '([\w.]+)' is not accepted", message)
        or re.search(r"()unrecognized arguments: --([\w.]+)", message)
        or re.search(r"()Subcommand '\w+' does not accept option '([\w.]+)'", message)
    )
    if not wrong:
        return ""
    path = ".".join(part for part in wrong.groups() if part).split(".")
    if owner is None and base is None and path[0] not in _TOP_LEVEL:
        return f"Unknown key {path[0]!r}. {suggest(path[0], _TOP_LEVEL)}"
    valid = _valid_names(owner, path[:-1]) if owner is not None else []
    return f"Unknown key {'.'.join(path)!r}{of}. {suggest(path[-1], valid)}" if valid else ""


def explain(message: str) -> str:
    """Shorten a message of jsonargparse and add the nearest valid name.

    Args:
        message: What the parser said.

    Returns:
        One or a few lines for the user.

    Example:
        >>> explain("unrecognized arguments: --modle DDOQ")
        "Unknown key 'modle'. Did you mean 'model'? Valid: config, data, distilled, extends, force, model, \
output, prior, recipe, report, seed_everything, seeds, students, teacher, trainer, wandb."
    """
    hint = _hint(message)
    if hint:
        return hint
    lines = [line for line in message.splitlines() if line.strip()]
    kept = [
        line.strip().removeprefix("- ")
        for line in lines
        if not any(line.strip().removeprefix("- ").startswith(noise) for noise in _NOISE)
        and "NoneType" not in line
    ]
    return " ".join(kept) or message
