"""Files of experts: one each, of which single checkpoints can be read."""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from ddoq.storage.damage import DamagedError, read_or_set_aside
from ddoq.storage.disk import writing
from ddoq.storage.files import load_tensors, save_tensors
from ddoq.storage.locks import locked

WEIGHTS = "weights"  # the tensor of a file: a row for every checkpoint


def read_rows(path: Path, rows: Sequence[int]) -> list[Tensor]:
    """Read some checkpoints of an expert and leave the others on the disk.

    Args:
        path: A file with a tensor ``weights``, float32 ``(epochs + 1, p)``.
        rows: Which of them.

    Returns:
        Float32 ``(p,)`` each, on the CPU.

    Raises:
        DamagedError: If the file is missing or cut short.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            stored = file.get_slice(WEIGHTS)
            return [stored[row : row + 1][0].clone() for row in rows]
    except (SafetensorError, OSError) as error:
        raise DamagedError(
            path, f"is corrupt ({error})", "Run again: it is recorded anew."
        ) from None


def make_once(
    path: Path, make: Callable[[], tuple[Mapping[str, Tensor], Mapping[str, Any]]], *, wait: bool
) -> None:
    """Write a file of tensors unless it is there, one process at a time.

    Args:
        path: The file; a damaged one is set aside and made again.
        make: Returns tensors and metadata.
        wait: Wait for another process that makes it.

    Raises:
        Timeout: If another process makes it and we do not wait.
    """
    if read_or_set_aside(path, load_tensors) is not None:
        return
    lock = path.with_name(f".{path.name}.making")
    with locked(lock, f"waiting for {path.name}: another process makes it", wait=wait):
        if read_or_set_aside(path, load_tensors) is None:
            save_tensors(path, *make())


def share_file(source: Path, target: Path) -> None:
    """Give a file a second place, without copying it where the disk can do so."""
    with writing(target):
        try:
            os.link(source, target)
        except OSError:
            shutil.copyfile(source, target)
