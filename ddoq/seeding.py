"""Random generators that depend on what is drawn, never on where or when it is drawn."""

import hashlib
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ddoq.errors import UserError

if TYPE_CHECKING:  # seeds are checked by commands that shall not wait for torch
    import torch

# What numpy, and with it Lightning's seed_everything, takes; torch alone would take 64 bits.
MAX_SEED = 2**32 - 1


def derive_seed(seed: int, *keys: int | str) -> int:
    """Hash a seed and the keys of one draw into a seed of its own.

    Args:
        seed: The seed of the run.
        keys: What the draw is for, e.g. a purpose, a class and a prototype.

    Returns:
        An integer in [0, 2**63).

    Example:
        >>> derive_seed(0, "noise", 3) == derive_seed(0, "noise", 3)
        True
        >>> derive_seed(0, "noise", 3) == derive_seed(0, "noise", 4)
        False
    """
    # operator.index: numpy's 3 and Python's 3 are one key, and what is no integer is refused.
    parts = [repr(p if isinstance(p, str) else int(operator.index(p))) for p in (seed, *keys)]
    text = "\x1f".join(parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator_for(seed: int, *keys: int | str) -> "torch.Generator":
    """Make a CPU generator for one draw.

    ``seed_everything`` gives every rank the same stream, so that two ranks would draw identical noise for
    different items. A generator keyed by (seed, class, prototype) gives an image that does not depend on
    batch size, on sharding or on the number of ranks.

    Args:
        seed: The seed of the run.
        keys: What the draw is for; see :func:`derive_seed`.

    Returns:
        A fresh ``torch.Generator`` on the CPU.

    Example:
        >>> import torch
        >>> bool((torch.randn(3, generator=generator_for(0, "a"))
        ...       == torch.randn(3, generator=generator_for(0, "a"))).all())
        True
    """
    import torch

    return torch.Generator(device="cpu").manual_seed(derive_seed(seed, *keys))


def check_seed(name: str, seed: Any) -> int:
    """Refuse what cannot seed every generator of a run.

    Args:
        name: What to call it in errors, e.g. the key of a configuration.
        seed: What was given.

    Returns:
        The same seed.

    Raises:
        UserError: If it is no integer in [0, 2**32 - 1], which is what numpy takes.

    Example:
        >>> check_seed("teacher.seed", 3)
        3
    """
    if not _is_seed(seed):
        raise UserError(
            f"{name} must be an integer from 0 to {MAX_SEED} (2**32 - 1), not {seed!r}."
        )
    return int(seed)


def check_seeds(name: str, seeds: Any) -> Sequence[int]:
    """Refuse a list of seeds that could not stand for as many repetitions.

    Args:
        name: What to call it in errors.
        seeds: What was given.

    Returns:
        The same list.

    Raises:
        UserError: If it is no list, empty, holds what :func:`check_seed` refuses, or one seed twice: equal seeds give
            equal numbers, which are no repetition.

    Example:
        >>> check_seeds("seeds", [0, 1, 2])
        [0, 1, 2]
    """
    if not isinstance(seeds, list) or not all(_is_seed(seed) for seed in seeds):
        raise UserError(
            f"{name} must be a list of integers from 0 to {MAX_SEED} (2**32 - 1), not {seeds!r}."
        )
    if not seeds:
        raise UserError(f"{name} must list at least one integer, e.g. [0, 1, 2].")
    twice = [seed for number, seed in enumerate(seeds) if seed in seeds[:number]]
    if twice:
        raise UserError(
            f"{name}: the seed {twice[0]} is listed twice, which would count one training as two. List each seed once."
        )
    return seeds


def _is_seed(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_SEED
