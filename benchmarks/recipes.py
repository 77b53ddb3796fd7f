"""Recipes: named protocols for training a student on a distilled set, read from YAML."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace

from ddoq.errors import UserError, suggest


@dataclass(frozen=True)
class Recipe:
    """How a student is trained. Every constant stands with its source in ``benchmarks/recipe_files``.

    Attributes:
        name: What tables call it.
        epochs: Passes over the distilled set.
        batch_size: Images per optimiser step over all ranks; a smaller set is one batch.
        optimizer: ``adamw`` (without weight decay it is Adam) or ``sgd``.
        lr: Learning rate at the start.
        lr_by_arch: Other learning rates for architectures whose name starts so; the longest match counts.
        weight_decay: Decoupled for ``adamw``.
        weight_decay_on: ``matrices`` decays only tensors of two or more dimensions, ``all`` everything.
        betas: Of ``adamw``.
        momentum: Of ``sgd``.
        schedule: ``cosine`` or ``constant``; the rate is set once an epoch.
        zeta: Stretch of the cosine: 1 ends at 0, 2 at half of ``lr``.
        labels: ``online``: the teacher labels the augmented images; ``hard``: the labels of the set.
        loss: ``kl`` or ``ce``; they differ by the teacher's entropy, so students learn the same.
        temperature: Softens both distributions.
        scale_t2: Whether the soft loss is multiplied by the squared temperature.
        crop_scale: Smallest and largest share of the area that a crop keeps.
        crop_ratio: Smallest and largest width over height of a crop.
        flip: Whether half of the images are mirrored.
        cutmix_alpha: Parameter of CutMix; 0 mixes nothing.
        reduction: ``batch`` divides the weighted sum by the batch size, ``weights`` by the sum of weights.
        weight_under_cutmix: ``mix`` mixes weights as pixels, ``base`` keeps the weight of the base image.
        changed: Names of the values that differ from the recipe of that name.
    """

    name: str
    epochs: int
    batch_size: int
    optimizer: Literal["adamw", "sgd"]
    lr: float
    weight_decay: float
    schedule: Literal["cosine", "constant"]
    labels: Literal["online", "hard"]
    loss: Literal["kl", "ce"]
    temperature: float
    crop_scale: tuple[float, float]
    crop_ratio: tuple[float, float]
    flip: bool
    cutmix_alpha: float
    lr_by_arch: dict[str, float] = field(default_factory=dict)
    weight_decay_on: Literal["matrices", "all"] = "matrices"
    betas: tuple[float, float] = (0.9, 0.999)
    momentum: float = 0.9
    zeta: float = 1.0
    scale_t2: bool = False
    reduction: Literal["batch", "weights"] = "batch"
    weight_under_cutmix: Literal["mix", "base"] = "mix"
    changed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse values that no training could use."""
        low, high = self.crop_scale
        narrow, wide = self.crop_ratio
        rules = {
            "epochs": (self.epochs >= 1, "at least 1"),
            "batch_size": (self.batch_size >= 1, "at least 1"),
            "lr": (0 < self.lr < math.inf, "above 0"),
            "lr_by_arch": (all(0 < lr < math.inf for lr in self.lr_by_arch.values()), "above 0"),
            "weight_decay": (self.weight_decay >= 0, "at least 0"),
            "betas": (all(0 <= beta < 1 for beta in self.betas), "two numbers in [0, 1)"),
            "momentum": (0 <= self.momentum < 1, "in [0, 1)"),
            "zeta": (self.zeta >= 1, "at least 1: below, the rate would rise again"),
            "temperature": (0 < self.temperature < math.inf, "above 0"),
            "crop_scale": (0 < low <= high <= 1, "two ascending numbers in (0, 1]"),
            "crop_ratio": (0 < narrow <= wide < math.inf, "two ascending numbers above 0"),
            "cutmix_alpha": (0 <= self.cutmix_alpha < math.inf, "at least 0"),
            "loss": (self.labels != "hard" or self.loss == "ce", "'ce' where labels is 'hard'"),
        }
        for key, (holds, rule) in rules.items():
            if not holds:
                raise UserError(
                    f"Recipe {self.name!r}: {key} must be {rule}, not {getattr(self, key)!r}."
                )

    @property
    def label(self) -> str:
        """The name, followed by what was changed: how results and tables call it."""
        changes = ",".join(f"{key}={_compact(getattr(self, key))}" for key in self.changed)
        return f"{self.name}[{changes}]" if changes else self.name

    def learning_rate(self, arch: str) -> float:
        """Return the learning rate at the start for an architecture."""
        matches = [prefix for prefix in self.lr_by_arch if arch.startswith(prefix)]
        return self.lr_by_arch[max(matches, key=len)] if matches else self.lr

    def lr_factor(self, epoch: int) -> float:
        r"""Return what the learning rate is multiplied by in an epoch (from 0).

        .. math::
            \tfrac{1}{2} \left(1 + \cos \frac{\pi e}{\zeta E}\right)
        """
        if self.schedule == "constant":
            return 1.0
        return 0.5 * (1 + math.cos(math.pi * epoch / (self.zeta * self.epochs)))


def _compact(value: Any) -> str:
    """Write a value for a label: ``0.5-1`` for a range, ``resnet:0.001`` for a mapping."""
    if isinstance(value, tuple):
        return "-".join(_compact(part) for part in value)
    if isinstance(value, dict):
        return "+".join(f"{key}:{_compact(item)}" for key, item in sorted(value.items())) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


# `name` comes from the file's name and `changed` from the overrides.
_KEYS = [item.name for item in fields(Recipe) if item.name not in ("name", "changed")]


def recipe_names() -> list[str]:
    """List the recipes that come with the suite.

    Example:
        >>> recipe_names()
        ['hard', 'sre2l', 'unified']
    """
    files = resources.files("benchmarks").joinpath("recipe_files").iterdir()
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
    if name_or_path in recipe_names():
        source = f"recipe {name_or_path!r}"
        text = (
            resources.files("benchmarks")
            .joinpath("recipe_files", f"{name_or_path}.yaml")
            .read_text(encoding="utf-8")
        )
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


def _read(name: str) -> str:
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        raise UserError(
            f"There is no recipe {name!r}. {suggest(name, recipe_names())} Or give the path of a .yaml file."
        )
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"Cannot read the recipe {path}: {error}.") from None


def _parse_yaml(text: str, source: str) -> dict[str, Any]:
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{source} is not valid YAML: {error}") from None
    if not isinstance(values, dict):
        raise UserError(f"{source} must be a mapping of keys to values.")
    return values


def _build(name: str, values: Mapping[str, Any], source: str) -> Recipe:
    for key in values:
        if key not in _KEYS:
            raise UserError(f"{source}: unknown key {key!r}. {suggest(str(key), _KEYS)}")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Recipe, skip={"name", "changed"})
    try:
        parsed = parser.parse_object(Namespace(**values))
    except ArgumentError as error:
        raise UserError(f"{source}: {error}") from None
    return Recipe(name=name, **{key: parsed[key] for key in _KEYS})
