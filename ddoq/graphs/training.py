"""How networks learn to classify graphs or nodes, and how they are measured."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics.functional.classification import binary_auroc, multiclass_accuracy

from ddoq.graphs.base import Metric
from ddoq.graphs.batches import Samples
from ddoq.optimisation.steps import StepLoop
from ddoq.seeding import generator_for
from ddoq.storage.checkpoints import StepCheckpoint

_DROP = 0.1  # of the learning rate, halfway; DosCond's code


class Training:
    """A network that learns graphs, or nodes, with Adam, whose rate falls to a tenth halfway: the protocol of DosCond.

    Args:
        network: On the device of the graphs.
        graphs: What it learns from.
        epochs: Passes.
        batch_size: Graphs, or nodes, a step.
        lr: Rate at the start.
        keys: Seed and names of the draws: of the order of graphs in each epoch.
        watch: Is called after every epoch with its number.
        further: What else a checkpoint holds: returns it.
        restore: Takes what ``further`` returned in an earlier process.
    """

    def __init__(
        self,
        network: nn.Module,
        graphs: Samples,
        *,
        epochs: int,
        batch_size: int,
        lr: float,
        keys: tuple[int, str],
        watch: Callable[[int], None] = lambda epoch: None,
        further: Callable[[], Mapping[str, Any]] = dict,
        restore: Callable[[Mapping[str, Any]], None] = lambda state: None,
    ) -> None:
        self.network = network
        self.graphs = graphs
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.keys = keys
        self.watch = watch
        self.further = further
        self.restore = restore
        self.optimizer = torch.optim.Adam(network.parameters(), lr=lr)
        self.loss = torch.zeros((), device=graphs.x.device)

    def run(self, checkpoint: StepCheckpoint | None, what: str, mend: str) -> float:
        """Train, from where a killed process left it.

        Args:
            checkpoint: Where the state is kept.
            what: What to call the work in lines of progress and errors.
            mend: What to try where it diverges.

        Returns:
            The mean loss of the last epoch.

        Raises:
            DivergedError: If a loss is not finite.
        """
        loop = StepLoop(
            self.epochs,
            state=self._state,
            restore=self._restore,
            checkpoint=checkpoint,
            what=what,
            mend=mend,
        )
        for epoch in loop:
            rate = self.lr * (_DROP if epoch >= self.epochs // 2 else 1)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self.loss = self._epoch(epoch)
            loop.loss = self.loss
            self.watch(epoch)
        return float(self.loss)

    def _epoch(self, epoch: int) -> Tensor:
        self.network.train()
        seed, name = self.keys
        order = torch.randperm(len(self.graphs), generator=generator_for(seed, name, epoch))
        total = torch.zeros((), device=self.graphs.x.device)
        whole = len(self.graphs) <= self.batch_size
        for positions in order.split(self.batch_size):
            # The order of graphs in a step decides nothing but rounding: a set of one batch is not gathered anew.
            batch = self.graphs if whole else self.graphs.select(positions.to(total.device))
            loss = F.cross_entropy(self.network(batch), batch.labels)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            total += loss.detach() * len(batch)
        return total / len(self.graphs)

    def _state(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "loss": self.loss,
            "further": dict(self.further()),
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(dict(state["optimizer"]))
        self.loss = state["loss"].to(self.graphs.x.device)
        self.restore(state["further"])


@torch.no_grad()
def answers(network: nn.Module, graphs: Samples, batch_size: int = 1024) -> Tensor:
    """Return a network's logits on graphs or nodes, float ``(n, classes)``."""
    network.eval()
    if len(graphs) <= batch_size:
        logits: Tensor = network(graphs)
        return logits
    positions = torch.arange(len(graphs), device=graphs.x.device).split(batch_size)
    return torch.cat([network(graphs.select(rows)) for rows in positions])


def score(logits: Tensor, labels: Tensor, metric: Metric) -> float:
    """Measure answers: the share of samples whose class is right, or the area under the ROC curve of the second class.

    Args:
        logits: Float ``(n, classes)``; two classes for the area.
        labels: int64 ``(n,)``.
        metric: ``accuracy`` or ``roc-auc``.

    Example:
        >>> logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.0, 3.0], [0.0, 2.0]])
        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> score(logits, labels, "accuracy"), score(logits, labels, "roc-auc")
        (0.75, 1.0)
    """
    if metric == "roc-auc":
        return float(binary_auroc(logits.softmax(dim=1)[:, 1], labels))
    return float(multiclass_accuracy(logits, labels, logits.shape[1], average="micro"))
