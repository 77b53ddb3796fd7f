"""The section ``trainer`` of a configuration: what can act in this suite, and values that no trainer could be built of.

The trainer of a configuration distils, and says where everything runs. Priors, teachers and students have trainers of
their own, which obey their settings and recipes.
"""

import inspect
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.accelerators import AcceleratorRegistry
from lightning.pytorch.strategies import StrategyRegistry

from ddoq.errors import UserError, suggest
from ddoq.storage.keys import precision_name

# What differs from Lightning's defaults.
DEFAULTS = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_model_summary": False,
    # Methods that take gradients with respect to images fail under inference mode.
    "inference_mode": False,
    "devices": 1,
}
# Arguments of Lightning's trainer that act: on where things run, on students (the precision), or on distillation.
ACTING = frozenset(
    {
        "accelerator",
        "strategy",
        "devices",
        "num_nodes",
        "precision",
        "plugins",
        "callbacks",
        "profiler",
        "enable_progress_bar",
        "deterministic",
        "benchmark",
    }
)
_LENGTH = (
    "recipe.overrides.epochs is how long students train, `epochs` of the teacher and `steps` of the prior how long "
    "these do"
)
_SMOKE = "to try a configuration in a minute, give --smoke true"
_IMAGES = "data.init_args.limit_per_class leaves out training images"
_TESTS = "data.init_args.test_limit_per_class leaves out test images"
_CURVE = "students are tested ten times in the course of a training, and after the last epoch"
_LOGGERS = "the curves of students lie in the output folder, and the key `wandb` logs them"
_CLIPPING = "no recipe clips gradients"
# The others, and what to use instead. They could at best break a run: nothing that trains ever sees them.
INSTEAD = {
    "logger": _LOGGERS,
    "log_every_n_steps": _LOGGERS,
    "enable_autolog_hparams": _LOGGERS,
    "model_registry": _LOGGERS,
    "fast_dev_run": _SMOKE,
    "limit_predict_batches": _SMOKE,
    "max_epochs": _LENGTH,
    "min_epochs": _LENGTH,
    "max_steps": _LENGTH,
    "min_steps": _LENGTH,
    "max_time": "a run that is interrupted goes on where it stopped when it is started again",
    "limit_train_batches": _IMAGES,
    "overfit_batches": _IMAGES,
    "limit_val_batches": _TESTS,
    "limit_test_batches": _TESTS,
    "val_check_interval": _CURVE,
    "check_val_every_n_epoch": _CURVE,
    "num_sanity_val_steps": _CURVE,
    "enable_checkpointing": "checkpoints are kept in any case, and a run that was stopped goes on from them",
    "enable_model_summary": "results record the parameters of every student",
    "accumulate_grad_batches": "recipe.overrides.batch_size is the number of images in a step of a student",
    "gradient_clip_val": _CLIPPING,
    "gradient_clip_algorithm": _CLIPPING,
    "inference_mode": "methods take gradients, for which it has to be false",
    "use_distributed_sampler": "ranks share work items and images exactly, without Lightning's sampler",
    "detect_anomaly": "losses that are no numbers are refused in any case",
    "barebones": "set enable_progress_bar to false to have no bar",
    "sync_batchnorm": "evaluation.sync_batchnorm says it for students that several ranks train",
    "reload_dataloaders_every_n_epochs": "every epoch draws its own order in any case",
    "default_root_dir": "`output` is the folder that all files go to",
}
_ANYWHERE = ("32-true", "64-true", "bf16-mixed", "bf16-true")
_ON_GPUS = ("16-mixed", "16-true")


def changed(section: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that a configuration sets to another value than the suite's default.

    Args:
        section: All arguments of ``lightning.Trainer``, by name.
    """
    parameters = inspect.signature(L.Trainer).parameters
    defaults = {name: parameter.default for name, parameter in parameters.items()} | DEFAULTS
    return {name: value for name, value in section.items() if value != defaults.get(name)}


def check_trainer(section: Mapping[str, Any]) -> None:
    """Refuse arguments that cannot act, and values that no trainer could be built of.

    Args:
        section: All arguments of ``lightning.Trainer``, by name; of classes at least their names.

    Raises:
        UserError: Naming the key and the mend.
    """
    for name in changed(section):
        if name not in ACTING:
            instead = INSTEAD.get(name, "this version of the suite does not know it")
            raise UserError(f"trainer.{name} has no effect here: {instead}. Leave the key out.")
    _check_name("accelerator", section["accelerator"], ("gpu", *AcceleratorRegistry))
    _check_name("strategy", section["strategy"], StrategyRegistry.available_strategies())
    if section["num_nodes"] < 1:
        raise UserError(f"trainer.num_nodes must be at least 1, not {section['num_nodes']}.")
    _check_devices(section["devices"])
    _check_accelerator(section["accelerator"])


def _check_name(key: str, value: Any, names: Any) -> None:
    """Refuse a name that Lightning does not know; classes are left to it."""
    if isinstance(value, str) and value.lower() not in (known := {"auto", *names}):
        raise UserError(f"There is no trainer.{key} {value!r}. {suggest(value, known)}")


def _check_devices(value: Any) -> None:
    """Refuse what counts no devices, and lists none."""
    parts = (
        value.split(",")
        if isinstance(value, str)
        else value
        if isinstance(value, list)
        else [value]
    )
    listed = isinstance(value, list) or (isinstance(value, str) and "," in value)
    if value == "auto":
        return
    try:
        numbers = [int(part) for part in parts if str(part).strip()]
    except ValueError:
        numbers = []
    least = 0 if listed else 1
    if not numbers or (min(numbers) < least and (listed or numbers != [-1])):
        raise UserError(
            f"trainer.devices must be how many there shall be, a list of their numbers, or auto; not {value!r}."
        )


def _check_accelerator(name: Any) -> None:
    """Refuse one that is not there."""
    if not isinstance(name, str) or name.lower() in ("auto", "cpu"):
        return
    kinds = ("cuda", "mps") if name.lower() == "gpu" else (name.lower(),)
    if not any(AcceleratorRegistry[kind]["accelerator"].is_available() for kind in kinds):
        raise UserError(
            f"trainer.accelerator is {name}, but there is none that torch could use: set it to cpu, or to auto."
        )


def check_students_precision(value: Any, device: torch.device) -> None:
    """Refuse precisions in which students cannot be trained.

    Args:
        value: ``trainer.precision``.
        device: Where students are trained.

    Raises:
        UserError: Naming those that will do.
    """
    name = precision_name(value)
    fitting = _ANYWHERE if device.type == "cpu" else (*_ANYWHERE, *_ON_GPUS)
    if name not in fitting:
        where = "on CPUs" if name in _ON_GPUS else "here"
        raise UserError(
            f"trainer.precision {value} cannot train students {where}: use one of {', '.join(fitting)}."
        )


@contextmanager
def explained(section: Mapping[str, Any]) -> Iterator[None]:
    """Turn what Lightning raises about its arguments into an error that names keys.

    Args:
        section: The arguments that a trainer is built of inside the context.

    Raises:
        UserError: With Lightning's own words.
    """
    try:
        yield
    except (MisconfigurationException, ValueError, TypeError, ImportError, RuntimeError) as error:
        text = " ".join(str(error).split())
        given = changed(section)
        named = [key for key in section if re.search(rf"\b{key}\b", text)]
        keys = ", ".join(f"trainer.{key}" for key in named or given) or "trainer"
        raise UserError(f"No trainer can be built of these values of {keys}: {text}") from error
