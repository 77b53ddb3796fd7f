"""Dataset distillation as optimal quantisation: the library behind the benchmark."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ddoq.ddoq import DDOQ
    from ddoq.distillation.distilled_set import DistilledSet
    from ddoq.distillation.distiller import Distiller

__all__ = ["DDOQ", "DistilledSet", "Distiller"]

_HOMES = {
    "DDOQ": "ddoq.ddoq",
    "DistilledSet": "ddoq.distillation.distilled_set",
    "Distiller": "ddoq.distillation.distiller",
}


def __getattr__(name: str) -> Any:
    """Import torch and its kin only when a class is asked for, so that the command line answers at once."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
