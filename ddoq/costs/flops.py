"""Counting of floating-point operations: what a network costs for an image, forward and in a training step.

One multiply-add counts as two operations. Counted are matrix products, convolutions and attention, as
``torch.utils.flop_counter`` does; norms, activations, optimisers and augmentation are left out, a few per cent of a
convolutional network or a transformer. Nothing that is computed a second time to save memory counts twice: attention
is counted as its two matrix products, whichever kernel will run it.

Counting runs on the meta device, where tensors have shapes and no values: it takes a fraction of a second at any size of
network, and no memory.
"""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

# Batch normalisation cannot train on one image; all counts are per image, so this changes none.
_BATCH = 2

_Network = TypeVar("_Network", bound=nn.Module)


def count_flops(run: Callable[[], Any]) -> int:
    """Count the operations of whatever a function computes with torch.

    Args:
        run: Called once. Attention and transformer layers inside take torch's plain path, since the fused kernels of
            the CPU are not counted by torch.

    Returns:
        Floating-point operations, two a multiply-add.

    Example:
        >>> a, b = torch.zeros(3, 4), torch.zeros(4, 5)
        >>> count_flops(lambda: a @ b)
        120
    """
    formulas = {torch.ops.aten.convolution_backward: _convolution_backward}
    counter = FlopCounterMode(display=False, custom_mapping=formulas)
    # Only the total is read, and torch's book of modules refuses `torch.autograd.grad`, which methods use.
    counter.mod_tracker = _NoModules()  # type: ignore[assignment]
    with _plain_attention(), counter:
        run()
    return int(counter.get_total_flops())


class _NoModules:
    """Stands in for torch's book of which module is running: everything belongs to the whole."""

    parents = frozenset({"Global"})

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


def on_meta(network: _Network) -> _Network:
    """Copy a network without its values.

    Args:
        network: Any module, on any device; it is left as it was.

    Returns:
        The same module with all parameters and buffers on the meta device, in the same mode; it takes no memory.

    Example:
        >>> on_meta(nn.Linear(2, 3)).weight.device.type
        'meta'
    """
    known: dict[int, Any] = {}
    for parameter in network.parameters():
        empty = nn.Parameter(parameter.detach().to("meta"), parameter.requires_grad)
        known[id(parameter)] = empty
    for buffer in network.buffers():
        known[id(buffer)] = buffer.detach().to("meta")
    return copy.deepcopy(network, known)


def filled(network: _Network, device: torch.device) -> _Network:
    """Copy a network to a device with small random values, to measure how fast it runs.

    Args:
        network: Any, on any device; left as it was.
        device: Where the copy is.

    Example:
        >>> filled(on_meta(nn.Linear(2, 3)), torch.device("cpu")).weight.shape
        torch.Size([3, 2])
    """
    copied = on_meta(network).to_empty(device=device)
    generator = torch.Generator(device).manual_seed(0)
    with torch.no_grad():
        for tensor in [*copied.parameters(), *copied.buffers()]:
            if tensor.is_floating_point():
                tensor.normal_(0, 0.02, generator=generator).abs_()  # variances are positive
            else:
                tensor.zero_()
    return copied


def forward_flops(network: nn.Module, shape: Sequence[int]) -> int:
    """Count what a network computes for one input in evaluation mode.

    Args:
        network: From float inputs ``(n, *shape)`` to anything; it is left as it was.
        shape: Shape of one input, e.g. ``(3, 224, 224)``.

    Returns:
        Floating-point operations of one forward pass of one input.

    Example:
        >>> forward_flops(nn.Linear(4, 5), (4,))
        40
    """

    def run(copied: nn.Module, inputs: Tensor) -> None:
        with torch.no_grad():
            copied.eval()(inputs)

    return _per_input(network, shape, run)


def training_flops(network: nn.Module, shape: Sequence[int]) -> int:
    """Count what a training step costs per image: the forward pass and the gradients of all trainable parameters.

    The gradient with respect to the images is not computed, as it is not when a classifier is trained.

    Args:
        network: From float inputs ``(n, *shape)`` to a tensor; it is left as it was.
        shape: Shape of one input.

    Returns:
        Floating-point operations of forward and backward for one input.

    Example:
        >>> training_flops(nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 6)), (4,))  # 40 + 60, then 40 + 60 + 60
        260
    """

    def run(copied: nn.Module, inputs: Tensor) -> None:
        copied.train()(inputs).sum().backward()

    return _per_input(network, shape, run)


def input_gradient_flops(network: nn.Module, shape: Sequence[int]) -> int:
    """Count what the gradient with respect to an image costs: the forward pass and a backward pass through it.

    The network is frozen and in evaluation mode, as in methods that optimise images.

    Args:
        network: From float inputs ``(n, *shape)`` to a tensor; it is left as it was.
        shape: Shape of one input.

    Returns:
        Floating-point operations of forward and backward for one input.

    Example:
        >>> input_gradient_flops(nn.Linear(4, 5), (4,))
        80
    """

    def run(copied: nn.Module, inputs: Tensor) -> None:
        output = copied.eval().requires_grad_(False)(inputs.requires_grad_())
        torch.autograd.grad(output.sum(), inputs)

    return _per_input(network, shape, run)


def _per_input(
    network: nn.Module, shape: Sequence[int], run: Callable[[nn.Module, Tensor], None]
) -> int:
    """Count on the meta device; for a network that reads values, on the device where it is."""
    try:
        counted = _count(on_meta(network), shape, run, torch.device("meta"))
    except (NotImplementedError, RuntimeError, ValueError):
        # What reads values fails here by one of these. If it was another mistake, it shows up again on the device.
        first = next(iter([*network.parameters(), *network.buffers()]), None)
        device = torch.device("cpu") if first is None else first.device
        counted = _count(copy.deepcopy(network), shape, run, device)
    return counted // _BATCH


def _count(
    network: nn.Module,
    shape: Sequence[int],
    run: Callable[[nn.Module, Tensor], None],
    device: torch.device,
) -> int:
    parameter = next(network.parameters(), None)
    dtype = torch.float32 if parameter is None else parameter.dtype
    inputs = torch.zeros((_BATCH, *shape), device=device, dtype=dtype)
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.enable_grad():  # dropout draws
        return count_flops(lambda: run(network, inputs))


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Let attention be two matrix products, which are counted on every device and in every mode."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _convolution_backward(
    grad_out_shape: Sequence[int],
    x_shape: Sequence[int],
    w_shape: Sequence[int],
    _bias: Any,
    _stride: Any,
    _padding: Any,
    _dilation: Any,
    transposed: bool,
    _output_padding: Any,
    _groups: int,
    output_mask: Sequence[bool],
    out_shape: Any = None,
    **_: Any,
) -> int:
    """Count both gradients of a convolution: each takes the multiply-adds of the forward pass.

    torch (2.14) takes the gradient of a grouped convolution's weight for that of a dense one: for MobileNetV2 it counts
    ten times too many.
    """
    positions = math.prod((x_shape if transposed else grad_out_shape)[2:])
    forward = 2 * x_shape[0] * positions * math.prod(w_shape)
    return forward * (int(output_mask[0]) + int(output_mask[1]))
