"""The objective of SRe2L's recovery as one compiled graph, kept for a whole run."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from baselines.sre2l.recover import Objective, open_objective


class CompiledObjective:
    """Both terms of the loss, compiled by ``torch.compile`` without a graph break, batch norms' statistics included.

    It works on a copy of the network whose hooks stay: were they set and removed with every batch, each batch would
    be compiled anew. Crops differ in every iteration and stay outside, so that all shapes are fixed.

    Args:
        network: Takes normalised images, in eval mode; it is copied.
        first_multiplier: Weight of the first batch norm.
        sizes: Images of each group; None is one group.
        backend: Of ``torch.compile``.
    """

    def __init__(
        self,
        network: nn.Module,
        first_multiplier: float,
        sizes: Sequence[int] | None = None,
        backend: str = "inductor",
    ) -> None:
        self._context: Any = open_objective(copy.deepcopy(network), first_multiplier, sizes)
        objective: Objective = self._context.__enter__()  # for good: the copy goes with this object
        self._compiled: Objective = torch.compile(
            objective, fullgraph=True, dynamic=False, backend=backend
        )

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return cross entropy and batch norm loss; see :func:`open_objective`."""
        cross_entropy, bn_loss = self._compiled(images, labels)
        return cross_entropy, bn_loss
