"""Random generators that depend on what is drawn, never on where or when it is drawn."""

import hashlib
import operator

import torch


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


def generator_for(seed: int, *keys: int | str) -> torch.Generator:
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
        >>> bool((torch.randn(3, generator=generator_for(0, "a"))
        ...       == torch.randn(3, generator=generator_for(0, "a"))).all())
        True
    """
    return torch.Generator(device="cpu").manual_seed(derive_seed(seed, *keys))
