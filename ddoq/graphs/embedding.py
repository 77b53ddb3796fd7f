"""What a trained network sees in graphs or nodes: an ingredient for methods that choose among them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddoq.bounds import check_number
from ddoq.console import duration, say
from ddoq.distillation.ingredient import Ingredient
from ddoq.graphs.base import GraphData
from ddoq.graphs.batches import Samples
from ddoq.graphs.build import Task, build_network, draw_graph_network
from ddoq.graphs.training import Training, answers, score
from ddoq.seeding import check_seed
from ddoq.storage.checkpoints import Checkpoint
from ddoq.storage.files import load_tensors, save_tensors
from ddoq.storage.fingerprints import hash_tensors
from ddoq.storage.folders import build_once

_FILE = "network.safetensors"


class GraphEmbedding(Ingredient[GraphData]):
    """A network trained on the training samples, whose last features stand for a sample: pooled ones for a graph.

    Args:
        arch: ``gcn``, ``gin`` or ``gat``, at its defaults for graphs or nodes, see :mod:`ddoq.graphs.build`.
        epochs: Passes over the training samples.
        batch_size: Samples a step.
        lr: Rate of Adam; a tenth from the middle on.
        seed: Decides weights and order.
    """

    def __init__(
        self,
        arch: str = "gcn",
        epochs: int = 100,
        batch_size: int = 128,
        lr: float = 1e-3,
        seed: int = 0,
    ) -> None:
        self.arch = arch
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.seed = check_seed("embedding.seed", seed)
        self._tensors: dict[str, Tensor] = {}
        self._record: dict[str, Any] = {}
        self._sizes: tuple[Task, str, int, int] = ("graphs", arch, 0, 0)

    def check(self, data: GraphData) -> None:
        """Refuse settings outside their ranges."""
        check_number("embedding.epochs", self.epochs, at_least=1)
        check_number("embedding.batch_size", self.batch_size, at_least=1)
        check_number("embedding.lr", self.lr, above=0)
        build_network(data.holds, self.arch, data.num_features, data.num_classes)

    def prepare(self, data: GraphData, folder: Path, where: Mapping[str, Any]) -> None:
        """Train the network, or find it trained; see :meth:`Ingredient.prepare`."""
        built = build_once(folder, lambda target: self._build(data, folder, target))
        self._tensors, self._record = load_tensors(folder / _FILE)
        self._sizes = (data.holds, self.arch, data.num_features, data.num_classes)
        say(
            f"embedding: {self.arch}, {data.metric} {self._record['validation']:.2%} on validation {data.holds}, "
            f"{duration(self._record['seconds'])}; {'trained' if built else 'reused'}, in {folder}"
        )

    def _build(self, data: GraphData, folder: Path, target: Path) -> None:
        checkpoint = Checkpoint.beside(folder, folder.name)
        network = draw_graph_network(
            self.arch,
            data.num_features,
            data.num_classes,
            "embedding",
            seed=self.seed,
            task=data.holds,
        )
        training = Training(
            network,
            data.train,
            epochs=self.epochs,
            batch_size=self.batch_size,
            lr=self.lr,
            keys=(self.seed, "embedding order"),
        )
        loss = training.run(checkpoint, "embedding", "Lower embedding.lr.")
        tensors = {name: value.detach() for name, value in network.state_dict().items()}
        record = {
            "fingerprint": hash_tensors(tensors),
            "loss": loss,
            "validation": score(answers(network, data.val), data.val.labels, data.metric),
            "seconds": checkpoint.elapsed,
        }
        save_tensors(target / _FILE, tensors, record)
        checkpoint.clear()

    @property
    def fingerprint(self) -> str:
        """Hash of its weights."""
        if not self._record:
            raise RuntimeError("The embedding is not trained yet: call prepare() first.")
        return str(self._record["fingerprint"])

    def facts(self) -> dict[str, Any]:
        """Return its seconds, and how well it classifies validation samples."""
        return {name: self._record[name] for name in ("seconds", "validation")}

    @torch.no_grad()
    def embed(self, graphs: Samples) -> Tensor:
        """Return features of samples, float32 ``(n, d)``, on their device."""
        network: Any = build_network(*self._sizes)  # each embeds samples of its own kind
        network.load_state_dict(self._tensors)
        network = network.to(graphs.x.device).eval()
        rows = torch.arange(len(graphs), device=graphs.x.device).split(1024)
        return torch.cat([network.embed(graphs.select(positions)) for positions in rows])
