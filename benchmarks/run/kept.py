"""What a run keeps beside a distilled set, and the list of what it made."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning as L

from ddoq.console import say
from ddoq.errors import UserError
from ddoq.storage.disk import WriteError
from ddoq.storage.files import read_json, write_json
from ddoq.storage.fingerprints import plain


def keep_configuration(path: Path, config: Mapping[str, Any]) -> None:
    """Write the configuration of a run beside its set, unless it is there; a read-only output may lack it.

    Args:
        path: The file.
        config: The whole resolved configuration.

    Raises:
        WriteError: If it cannot be written for another reason than that nothing may be written there.
    """
    with suppress(UserError):
        if path.is_file() and read_json(path) == plain(config):
            return
    try:
        write_json(path, config)
    except WriteError as error:
        if not error.read_only:
            raise
        say(f"note: {error} The configuration of this run is not kept there.")


def list_made(report: Path | None, trainer: L.Trainer, paths: Sequence[Path]) -> None:
    """Write a list of what a run made, where one is asked for; the first rank does.

    Args:
        report: The file, or None.
        trainer: Of the run.
        paths: Sets, or results.
    """
    if report is not None and trainer.is_global_zero:
        write_json(report, paths)
