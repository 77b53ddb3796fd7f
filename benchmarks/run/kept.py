"""What a run keeps beside a distilled set."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

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
