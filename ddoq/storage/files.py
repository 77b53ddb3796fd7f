"""Files that are either whole or absent: atomic writing, and reading that notices damage."""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddoq.errors import UserError
from ddoq.storage.damage import DamagedError
from ddoq.storage.disk import writing
from ddoq.storage.fingerprints import hash_config, hash_tensors, plain

_SEAL = "checksum"  # the key of a sealed record under which the hash of all others stands

# Torch and safetensors are imported where tensors are touched: whoever only reads JSON should not wait for them.
if TYPE_CHECKING:
    from torch import Tensor


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Give a temporary path that becomes ``target`` when the block ends well.

    A killed process leaves either the old file or the new one, never half of one.

    Args:
        target: The file to write; its folder is made if need be.

    Yields:
        A path in the same folder to write to.

    Raises:
        WriteError: If the disk is full or read-only, or the folder cannot be made.
    """
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            temporary.chmod(0o644)  # mkstemp makes files that nobody else may read
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically.

    Args:
        path: The file to write.
        value: Anything that :func:`ddoq.storage.fingerprints.plain` takes.
    """
    text = json.dumps(plain(value), indent=2, ensure_ascii=False) + "\n"
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Args:
        path: The file to read.

    Returns:
        What it holds.

    Raises:
        DamagedError: If the file is missing or is not JSON.
        UserError: If it cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DamagedError(path, "does not exist", "") from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DamagedError(path, f"is not valid JSON ({error})") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error}).") from None


def write_sealed(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record as JSON with a hash of itself, so that a change of a single digit is noticed.

    Args:
        path: The file to write.
        record: Values by name, none of them called ``checksum``.
    """
    values = plain(record)
    write_json(path, {**values, _SEAL: hash_config(values)})


def read_sealed(path: Path) -> Any:
    """Read what :func:`write_sealed` wrote, and check it.

    A file without a seal, from an earlier version or written by hand, is read as it is: whoever edits a sealed one on
    purpose removes its ``checksum``.

    Args:
        path: The file to read.

    Returns:
        What was written, without the seal.

    Raises:
        DamagedError: If the file is missing, is not JSON or was changed since.
        UserError: If it cannot be read.
    """
    record = read_json(path)
    if not isinstance(record, dict) or _SEAL not in record:
        return record
    values = {key: value for key, value in record.items() if key != _SEAL}
    if hash_config(values) != record[_SEAL]:
        raise DamagedError(
            path,
            f"was changed after it was written: it does not match its {_SEAL!r}",
            f"Restore it from a copy, or remove {_SEAL!r} from it if the change was meant.",
        )
    return values


def _checksum(tensors: "Mapping[str, Tensor]", metadata: str) -> str:
    return hash_config([hash_tensors(tensors), metadata])


def save_tensors(path: Path, tensors: "Mapping[str, Tensor]", metadata: Mapping[str, Any]) -> None:
    """Write tensors as safetensors, atomically, with metadata and a checksum; equal contents give equal bytes.

    Args:
        path: The file to write.
        tensors: Tensors of any shape and dtype; they are copied to the CPU.
        metadata: JSON values that travel in the file's header.

    Raises:
        WriteError: If the disk is full or read-only.
    """
    from safetensors.torch import save_file

    stored: dict[str, Tensor] = {}
    storages: set[int] = set()
    for name, tensor in tensors.items():
        copy = tensor.detach().cpu().contiguous()
        if copy.untyped_storage().data_ptr() in storages:
            # Safetensors refuses tensors that share memory, such as tied weights.
            copy = copy.clone()
        storages.add(copy.untyped_storage().data_ptr())
        stored[name] = copy
    text = json.dumps(plain(metadata))
    header = {"metadata": text, "checksum": _checksum(stored, text)}
    with atomic_path(path) as temporary:
        save_file(stored, temporary, metadata=header)
        _order_header(temporary)


def _order_header(path: Path) -> None:
    """Put the metadata of a safetensors file in order: the library writes their keys in a random one."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) > size:
            raise RuntimeError(f"the header of {path} has grown from {size} to {len(text)} bytes")
        file.seek(8)
        file.write(text.ljust(size))  # the format ends a header with spaces


def load_tensors(path: Path) -> "tuple[dict[str, Tensor], dict[str, Any]]":
    """Read what :func:`save_tensors` wrote, and check it.

    Args:
        path: The file to read.

    Returns:
        The tensors, on the CPU, and the metadata.

    Raises:
        DamagedError: If the file is missing, cut short, or differs from its own checksum.
        UserError: If it cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise DamagedError(path, "does not exist", "")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except PermissionError as error:
        raise UserError(f"{path} cannot be read ({error}).") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise DamagedError(path, f"is corrupt ({error})") from None
    if header.get("checksum") != _checksum(tensors, header.get("metadata", "")):
        raise DamagedError(path, "is corrupt (checksum mismatch)")
    return tensors, json.loads(header["metadata"])


def under_prefix(tensors: "Mapping[str, Tensor]", prefix: str) -> "dict[str, Tensor]":
    """Take the tensors whose names begin with a prefix, without it.

    Example:
        >>> under_prefix({"extra.a": 1, "b": 2}, "extra.")
        {'a': 1}
    """
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
