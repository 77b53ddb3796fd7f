"""Checkpoints of long work: a killed run goes on from the last one, and ends with the same bits."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from ddoq.errors import UserError
from ddoq.storage.damage import DamagedError, set_aside
from ddoq.storage.disk import WriteError
from ddoq.storage.files import load_tensors, save_tensors

# Raised whenever the layout of a checkpoint file changes.
CHECKPOINT_FORMAT = 1

# Seconds between two checkpoints, where a caller does not say.
INTERVAL = 60.0

_SHARE = 0.05  # of the time that writing may take: large states are written less often
_STALE = 600.0  # seconds after which a temporary file belongs to a process that was killed


class StepCheckpoint(Protocol):
    """What a loop of steps asks of a checkpoint; see :class:`Checkpoint`."""

    def due(self) -> bool:
        """Say whether it is time for the next checkpoint."""
        ...

    def save_step(self, done: int, state: Any) -> None:
        """Replace the checkpoint."""
        ...

    def load_step(self) -> tuple[int, Any] | None:
        """Return the steps that are done, and the state; None where there is no checkpoint."""
        ...


class Checkpoint:
    """The state of one piece of work, in one file that is replaced atomically and carries a checksum.

    The clock of :attr:`elapsed` starts when the object is made, so make it right before the work begins.

    Args:
        path: The file.
        key: Hash of everything that decides the work; a checkpoint with another key is refused.
        seconds: Time between two checkpoints; None takes :data:`INTERVAL`, 0 writes whenever asked.
        clock: Gives seconds; tests put in their own.

    Attributes:
        path: The file.
        earlier: Seconds of work in processes before this one, once a checkpoint of theirs is loaded.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "work.checkpoint"
        >>> Checkpoint(path, "settings").save({"x": torch.ones(2)}, {"step": 3})
        >>> Checkpoint(path, "settings").load()
        ({'x': tensor([1., 1.])}, {'step': 3})
    """

    def __init__(
        self,
        path: Path,
        key: str,
        seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = path
        self._key = key
        self._seconds = INTERVAL if seconds is None else seconds
        self._clock = clock
        self._started = self._saved = clock()
        self.earlier = 0.0
        self._cost = 0.0  # seconds that the last writing took

    @classmethod
    def beside(cls, folder: Path, key: str) -> "Checkpoint":
        """Open the checkpoint of what :func:`ddoq.storage.folders.build_once` builds, beside the folder that it fills.

        Args:
            folder: Where the product will be.
            key: Hash of everything that decides it.

        Example:
            >>> str(Checkpoint.beside(Path("priors/vae-01"), "01").path)
            'priors/.vae-01.checkpoint'
        """
        return cls(folder.with_name(f".{folder.name}.checkpoint"), key)

    @property
    def elapsed(self) -> float:
        """Seconds of work so far, those before a kill included, up to the checkpoint that was loaded."""
        return self.earlier + self._clock() - self._started

    def due(self) -> bool:
        """Say whether it is time for the next checkpoint."""
        pause = max(self._seconds, self._cost / _SHARE) if self._seconds else 0.0
        return self._clock() - self._saved >= pause

    def save(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Replace the checkpoint.

        Args:
            tensors: Tensors by name, of any dtype and on any device.
            state: JSON values, e.g. the step; :func:`flatten` makes both out of an optimiser's state.

        Raises:
            WriteError: If the file cannot be written.
        """
        began = self._clock()
        metadata = {
            "format": CHECKPOINT_FORMAT,
            "key": self._key,
            "elapsed": self.elapsed,
            "state": state,
        }
        try:
            save_tensors(self.path, tensors, metadata)
        except WriteError as error:
            raise WriteError(f"{error} The work goes on from the last checkpoint.") from error
        self._saved = self._clock()
        self._cost = self._saved - began

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Read the checkpoint, and start the clock.

        Returns:
            Tensors, on the CPU, and state, as :meth:`save` was given them; None where there is no checkpoint. A damaged
            one is set aside.

        Raises:
            UserError: If it is of other settings.
        """
        self._started = self._saved = self._clock()
        if not self.path.is_file():
            return None
        try:
            tensors, metadata = load_tensors(self.path)
        except DamagedError as error:
            set_aside(
                self.path, error, "the work goes on from an earlier checkpoint, or begins anew"
            )
            return None
        if metadata.get("format") != CHECKPOINT_FORMAT or metadata.get("key") != self._key:
            raise UserError(
                f"{self.path} is a checkpoint of other settings, or of another version of this package: delete it to "
                "begin anew, or go back to the settings that it was made with."
            )
        self.earlier = float(metadata["elapsed"])
        state: dict[str, Any] = metadata["state"]
        return tensors, state

    def save_step(self, done: int, state: Any) -> None:
        """Replace the checkpoint of a work in steps.

        Args:
            done: Steps that are done.
            state: All that later steps depend on, see :func:`flatten`.

        Raises:
            WriteError: If the file cannot be written.
        """
        tensors, rest = flatten(state)
        self.save(tensors, {"done": done, "state": rest})

    def load_step(self) -> tuple[int, Any] | None:
        """Read what :meth:`save_step` kept: the steps that are done, and the state; see :meth:`load`."""
        loaded = self.load()
        if loaded is None:
            return None
        tensors, record = loaded
        return int(record["done"]), unflatten(tensors, record["state"])

    def clear(self) -> None:
        """Remove the checkpoint, and what killed processes left half written beside it."""
        if self.path.exists():  # a read-only disk refuses even what would do nothing
            self.path.unlink(missing_ok=True)
        for left in self.path.parent.glob(f".{self.path.name}.*.tmp"):
            if time.time() - left.stat().st_mtime > _STALE:  # others may be writing
                left.unlink(missing_ok=True)


def flatten(value: Any) -> tuple[dict[str, Tensor], Any]:
    """Take tensors out of nested containers, e.g. an optimiser's ``state_dict``.

    Args:
        value: Dicts (keys are texts or integers), lists and tuples of tensors, texts, numbers and None, nested at
            will.

    Returns:
        The tensors by name, and the rest as JSON values, from which :func:`unflatten` makes an equal value.

    Raises:
        TypeError: If a part is none of these.

    Example:
        >>> tensors, rest = flatten({"lr": 0.1, 3: (torch.zeros(2), None)})
        >>> tensors
        {'0': tensor([0., 0.])}
        >>> unflatten(tensors, rest)
        {'lr': 0.1, 3: (tensor([0., 0.]), None)}
    """
    tensors: dict[str, Tensor] = {}

    def walk(part: Any) -> Any:
        if isinstance(part, Tensor):
            name = str(len(tensors))
            tensors[name] = part.detach()
            # The layout too: kernels round differently where strides differ.
            return {"tensor": name, "stride": list(part.stride())}
        if isinstance(part, Mapping):
            if any(type(key) not in (str, int) for key in part):
                raise TypeError(f"cannot keep the keys {list(part)}: only texts and integers")
            return {"dict": [[key, walk(item)] for key, item in part.items()]}
        if type(part) in (list, tuple):
            return {type(part).__name__: [walk(item) for item in part]}
        if part is None or type(part) in (str, int, float, bool):
            return part
        raise TypeError(f"cannot keep a {type(part).__name__} in a checkpoint: {part!r}")

    rest = walk(value)
    return tensors, rest


def unflatten(tensors: Mapping[str, Tensor], rest: Any) -> Any:
    """Put back together what :func:`flatten` took apart.

    Args:
        tensors: The tensors by name; they are copied.
        rest: The JSON values.

    Returns:
        A value equal to what was flattened, tensors with the same strides where these are dense.
    """
    if not isinstance(rest, dict):
        return rest
    if "tensor" in rest:
        return _restride(tensors[rest["tensor"]], rest["stride"])
    if "dict" in rest:
        return {key: unflatten(tensors, item) for key, item in rest["dict"]}
    (name, items), *_ = rest.items()
    parts = [unflatten(tensors, item) for item in items]
    return parts if name == "list" else tuple(parts)


def _restride(tensor: Tensor, stride: list[int]) -> Tensor:
    """Copy a tensor into memory of a layout, where it is a permutation of a contiguous one."""
    order = sorted(range(tensor.ndim), key=lambda dim: (-stride[dim], dim))
    expected = 1
    for dim in reversed(order):
        if tensor.shape[dim] > 1 and stride[dim] != expected:
            return tensor.clone(memory_format=torch.contiguous_format)
        expected *= tensor.shape[dim]
    return torch.empty_strided(tensor.shape, stride, dtype=tensor.dtype).copy_(tensor)
