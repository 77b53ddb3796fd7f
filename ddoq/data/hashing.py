"""Hashes of the contents of large datasets, computed once and kept while the files stay what they were."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from ddoq.console import say
from ddoq.data.decoding import UnreadableImagesError
from ddoq.errors import UserError
from ddoq.storage.disk import WriteError
from ddoq.storage.files import read_sealed, write_sealed
from ddoq.storage.fingerprints import hash_config

_FORMAT = 2  # 1 had no checksum
_WORTH_KEEPING = 2**28  # bytes of a dataset; less is hashed in a second or two
# File systems keep times at steps of up to two seconds: a file as young as that may change once more unseen.
_SETTLED = 2.0

HashGroup = Callable[[Sequence[Path]], list[str]]


def kept_hashes_folder() -> Path:
    """Return where hashes are kept: ``$DDOQ_BENCH_CACHE``, else ``ddoq-bench`` in the user's cache folder."""
    chosen = os.environ.get("DDOQ_BENCH_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "ddoq-bench"


def content_hashes(
    place: str, groups: Mapping[str, Sequence[Path]], hash_group: HashGroup
) -> dict[str, list[str]]:
    """Hash groups of files, or take the hashes from an earlier run.

    A group's hashes are taken over as long as the list of its files, and each file's size, time of last modification
    and time of last change of status, are what they were: a file that was replaced with its date restored is noticed,
    except where a system keeps no such second time. The hashes are of contents alone, so that copies elsewhere agree.
    Nothing is kept of datasets below 256 MiB. Processes that need the same hashes wait for one another.

    Args:
        place: Names the dataset among those whose hashes are kept, e.g. its folder.
        groups: Files by the name of their group.
        hash_group: Reads files and returns any number of hexadecimal hashes without white space.

    Returns:
        What ``hash_group`` gives, or gave, for every group.

    Raises:
        UnreadableImagesError: With all that ``hash_group`` raises for any group, whose hashes are then not kept.
    """
    listings, size = {}, 0
    for name, files in groups.items():
        listings[name] = _Listing(files)
        size += listings[name].size
    if size < _WORTH_KEEPING:
        return _hash_all(groups, hash_group)
    store = kept_hashes_folder() / "hashes" / f"{hash_config(place)}.json"
    lock = FileLock(f"{store}.lock")
    try:
        store.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        _warn(store, error)
        return _hash_all(groups, hash_group)
    try:
        return _update(store, place, groups, listings, hash_group)
    finally:
        lock.release()


def _hash_all(groups: Mapping[str, Sequence[Path]], hash_group: HashGroup) -> dict[str, list[str]]:
    hashes, faults = _hash_each(groups, hash_group)
    if faults:
        raise UnreadableImagesError(faults)
    return hashes


def _hash_each(
    groups: Mapping[str, Sequence[Path]], hash_group: HashGroup
) -> tuple[dict[str, list[str]], list[str]]:
    """Hash all groups that can be, and list what is wrong with the others."""
    hashes, faults = {}, []
    for name, files in groups.items():
        try:
            hashes[name] = hash_group(files)
        except UnreadableImagesError as error:
            faults += error.faults
    return hashes, faults


class _Listing:
    """What is seen of files without reading them: total bytes, a hash of names, sizes and times, the youngest time."""

    def __init__(self, files: Sequence[Path]) -> None:
        rows = [(str(file), _stat(file)) for file in files]
        self.size = sum(stat.st_size for _, stat in rows)
        self.youngest = max((max(s.st_mtime, s.st_ctime) for _, s in rows), default=0.0)
        self.hash = hash_config(
            [(name, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for name, s in rows]
        )


def _stat(file: Path) -> os.stat_result:
    try:
        return file.stat()
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error}).") from None


def _warn(store: Path, error: Exception) -> None:
    say(
        f"data: WARNING hashes of the dataset cannot be kept in {store.parent} ({error}), so that it is hashed in every "
        "run; set DDOQ_BENCH_CACHE to a folder that can be written to"
    )


def _update(
    store: Path,
    place: str,
    groups: Mapping[str, Sequence[Path]],
    listings: Mapping[str, _Listing],
    hash_group: HashGroup,
) -> dict[str, list[str]]:
    now = time.time()
    kept = _read(store)
    fresh = {name for name in groups if kept.get(name, {}).get("listing") != listings[name].hash}
    if fresh:
        share, size = (sum(listings[name].size for name in names) for names in (fresh, groups))
        say(f"data: hashing {share / 2**30:.1f} of {size / 2**30:.1f} GiB in {place}, once")
    hashed, faults = _hash_each(
        {name: groups[name] for name in groups if name in fresh}, hash_group
    )
    for name in fresh:
        kept.pop(name, None)
        if name in hashed and listings[name].youngest < now - _SETTLED:
            kept[name] = {"listing": listings[name].hash, "hashes": " ".join(hashed[name])}
    if fresh:
        try:
            write_sealed(store, {"format": _FORMAT, "place": place, "groups": kept})
        except WriteError as error:
            _warn(store, error)
    if faults:
        raise UnreadableImagesError(faults)
    return {
        name: hashed[name] if name in fresh else kept[name]["hashes"].split() for name in groups
    }


def _read(store: Path) -> dict[str, Any]:
    """Read what was kept; what cannot be read is as good as absent."""
    try:
        content = read_sealed(store)
        groups = content["groups"] if content["format"] == _FORMAT else {}
        return {
            name: entry
            for name, entry in groups.items()
            if isinstance(entry["listing"], str) and isinstance(entry["hashes"], str)
        }
    except (UserError, KeyError, TypeError, AttributeError):
        return {}
