"""What experts know before they learn from real images."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from ddoq.decoding.transform import Transform


@dataclass(frozen=True)
class Beginning:
    """What experts have learnt before their training on real images begins.

    Attributes:
        fingerprint: Hash of all that decides it.
        teach: Changes the weights of a network on the device, given with its number.
        transform: The space that they learnt in, instead of one that is fitted to the real images.
    """

    fingerprint: str
    teach: Callable[[nn.Module, int], None]
    transform: Transform
