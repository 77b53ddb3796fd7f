"""Files that are either whole or absent: atomic writing, checked reading, build-once folders."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddoq.errors import UserError
from ddoq.storage.fingerprints import hash_config, hash_tensors, plain

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
    """
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
        UserError: If the file is missing, cannot be read or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid JSON ({error}). Restore it or delete it.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error}).") from None


def _checksum(tensors: "Mapping[str, Tensor]", metadata: str) -> str:
    return hash_config([hash_tensors(tensors), metadata])


def save_tensors(path: Path, tensors: "Mapping[str, Tensor]", metadata: Mapping[str, Any]) -> None:
    """Write tensors as safetensors, atomically, with metadata and a checksum.

    Args:
        path: The file to write.
        tensors: Tensors of any shape and dtype; they are copied to the CPU.
        metadata: JSON values that travel in the file's header.
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


def load_tensors(path: Path) -> "tuple[dict[str, Tensor], dict[str, Any]]":
    """Read what :func:`save_tensors` wrote, and check it.

    Args:
        path: The file to read.

    Returns:
        The tensors, on the CPU, and the metadata.

    Raises:
        UserError: If the file is missing, cut short, or differs from its own checksum.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise UserError(f"{path} does not exist.")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is corrupt ({error}). Delete it and run again.") from None
    if header.get("checksum") != _checksum(tensors, header.get("metadata", "")):
        raise UserError(f"{path} is corrupt (checksum mismatch). Delete it and run again.")
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


def build_once(folder: Path, build: Callable[[Path], None]) -> bool:
    """Fill a cache folder once, whoever asks: the first process builds, the others wait for it.

    The work is done in a folder beside it which is renamed at the end, so ``folder`` exists only whole.

    Args:
        folder: Where the product shall be.
        build: Writes the product into the empty folder it is given.

    Returns:
        True if this call built it, False if it was there.
    """
    if folder.is_dir():
        return False
    from filelock import FileLock

    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if folder.is_dir():
            return False
        unfinished = folder.with_name(f".{folder.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        build(unfinished)
        unfinished.rename(folder)
    return True
