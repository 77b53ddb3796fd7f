"""Hashes of configurations, tensors, modules and files: the keys of every cache and every result."""

import dataclasses
import enum
import hashlib
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Torch takes seconds to import, which commands that only read results should not wait for.
if TYPE_CHECKING:
    from torch import Tensor, nn

_SCALARS = frozenset({str, int, float, bool, type(None)})
_LENGTH = 16  # hexadecimal digits: 64 bits, ample for the number of runs a person makes


def plain(value: Any) -> Any:
    """Turn a configuration value into what JSON can hold.

    Args:
        value: Dataclasses, mappings, sequences, paths, enums, dtypes and scalars, nested at will.

    Returns:
        The same value made of dict, list, str, int, float, bool and None.

    Raises:
        TypeError: If a part of it has no canonical form (a silent ``str()`` would make unstable hashes).
    """
    # First what nearly all values are: to read thousands of results is mostly this.
    kind = type(value)
    if kind in _SCALARS:
        return value
    if kind is list:
        return [plain(item) for item in value]
    if kind is not dict and dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if kind is dict or isinstance(value, Mapping):
        keyed = {str(key): plain(item) for key, item in value.items()}
        if len(keyed) < len(value):
            raise TypeError(f"keys of a configuration must differ as text: {list(value)}")
        return keyed
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((plain(item) for item in value), key=canonical_json)
    if isinstance(value, enum.Enum):
        return plain(value.value)
    if isinstance(value, Path) or _is_torch_name(value):
        return str(value)
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise TypeError(f"cannot put a {type(value).__name__} into a configuration: {value!r}")


def _is_torch_name(value: Any) -> bool:
    torch = sys.modules.get("torch")  # whoever holds one of its values has imported it
    return torch is not None and isinstance(value, (torch.dtype, torch.device))


def canonical_json(value: Any) -> str:
    """Write a configuration value as JSON that is the same for equal values.

    Args:
        value: Anything that :func:`plain` takes.

    Returns:
        JSON with sorted keys and no white space.

    Example:
        >>> canonical_json({"b": 1, "a": (2, 3)})
        '{"a":[2,3],"b":1}'
    """
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def hash_config(value: Any) -> str:
    """Hash a whole resolved configuration.

    Args:
        value: Anything that :func:`plain` takes.

    Returns:
        16 hexadecimal digits.

    Example:
        >>> hash_config({"ipc": 10}) == hash_config({"ipc": 10})
        True
    """
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:_LENGTH]


def hash_tensors(tensors: "Mapping[str, Tensor]") -> str:
    """Hash names, dtypes, shapes and bytes of tensors.

    Args:
        tensors: Tensors of any shape and dtype, on any device.

    Returns:
        16 hexadecimal digits.
    """
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data if tensor.numel() else b"")
    return digest.hexdigest()[:_LENGTH]


def hash_module(module: "nn.Module") -> str:
    """Hash the parameters and buffers of a network.

    Args:
        module: Any module; its state dict is what counts.

    Returns:
        16 hexadecimal digits.
    """
    return hash_tensors(module.state_dict())


def hash_files(paths: Iterable[Path]) -> str:
    """Hash the contents of files, in the order given.

    Args:
        paths: Files to read; names and places do not count, only bytes.

    Returns:
        16 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:_LENGTH]
