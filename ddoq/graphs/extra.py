"""The optional packages that graphs need."""

import warnings
from importlib import import_module
from types import ModuleType

from ddoq.errors import UserError


def require(module: str) -> ModuleType:
    """Import a package of the extra ``graphs``, or one of its modules.

    Args:
        module: E.g. ``torch_geometric.nn``.

    Raises:
        UserError: If the package is not installed.

    Example:
        >>> require("torch_geometric.utils").__name__
        'torch_geometric.utils'
    """
    package = module.partition(".")[0]
    try:
        with (
            warnings.catch_warnings()
        ):  # torch_geometric compiles some functions as torch no longer likes it
            warnings.filterwarnings("ignore", r".*torch\.jit", FutureWarning)
            return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != package:
            raise
        raise UserError(
            f"Graphs need {package}, which is not installed: pip install 'ddoq-bench[graphs]'."
        ) from None
