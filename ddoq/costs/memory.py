"""Peak memory of a computation, from the tensors that are alive at once."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class _Alive(TorchDispatchMode):
    """Keeps book of the storages that operations make, for as long as something holds them."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._known: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # What goes in and is not known was there before, and so are views of it that come out.
        self._note((args, kwargs), new=False)
        outputs = func(*args, **(kwargs or {}))
        self._note(outputs, new=True)
        self._known = {k: v for k, v in self._known.items() if not v[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self._known.values()))
        return outputs

    def _note(self, tensors: Any, *, new: bool) -> None:
        for tensor in tree_leaves(tensors):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                known = self._known.get(storage._cdata)
                if known is None or known[0].expired():
                    size = storage.nbytes() if new else 0
                    self._known[storage._cdata] = (StorageWeakRef(storage), size)


class _FusedAttention(TorchFunctionMode):
    """Gives attention the memory that fused kernels take: its result, and no matrix of scores."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.nn.functional.scaled_dot_product_attention:
            named = dict(zip(("query", "key", "value"), args, strict=False)) | (kwargs or {})
            query, key, value = (named[name] for name in ("query", "key", "value"))
            if query.shape[-1] == value.shape[-1]:
                # Any operation that has the right shape and depends on all three.
                return query + key.mean(-2, keepdim=True) + value.mean(-2, keepdim=True)
        return func(*args, **(kwargs or {}))


def peak_bytes(run: Callable[[], Any]) -> int:
    """Estimate the most memory that a function's tensors take at once, beside what existed before.

    Attention counts as fused kernels do it, without its matrix of scores. Workspaces of kernels, fragmentation and the
    device's own context are not in it. On meta tensors this costs no memory.

    Args:
        run: Called once.

    Returns:
        Bytes.

    Example:
        >>> peak_bytes(lambda: torch.zeros(1000, device="meta") + 1)
        8000
    """
    with _Alive() as alive, _FusedAttention():
        run()
    peak: int = alive.peak
    return peak


def weight_bytes(network: nn.Module | None) -> int:
    """Count the bytes of parameters and buffers.

    Example:
        >>> weight_bytes(nn.Linear(3, 2))
        32
    """
    if network is None:
        return 0
    tensors = [*network.parameters(), *network.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
