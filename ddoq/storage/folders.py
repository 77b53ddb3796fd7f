"""Folders that are filled once: whole or absent, and with a manifest by which every file in them is checked."""

import hashlib
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ddoq.errors import UserError
from ddoq.storage.damage import DamagedError, set_aside
from ddoq.storage.disk import disk_error, writing
from ddoq.storage.files import read_json, write_json
from ddoq.storage.fingerprints import hash_config

# The file in a folder that lists all others by their contents.
MANIFEST = "manifest.json"
_FORMAT = 1
_PICTURES = (".png", ".jpg")  # for people: nothing reads them back

T = TypeVar("T")


def write_manifest(folder: Path) -> None:
    """List the files of a folder, but for pictures, with the SHA-256 of their contents, in a file beside them.

    Args:
        folder: A folder that is finished.
    """
    names = sorted(
        str(path.relative_to(folder).as_posix())
        for path in folder.rglob("*")
        if path.is_file() and path != folder / MANIFEST and path.suffix not in _PICTURES
    )
    files = {name: _sha256(folder / name) for name in names}
    record = {"format": _FORMAT, "files": files, "fingerprint": hash_config(files)}
    write_json(folder / MANIFEST, record)


def check_manifest(folder: Path) -> bool:
    """Compare the contents of a folder with its manifest.

    Args:
        folder: Any folder; files that its manifest does not list are left alone.

    Returns:
        Whether it has one: folders of others have none, nor have those of versions that wrote none.

    Raises:
        DamagedError: If a file, or the manifest itself, is not what was written.
    """
    path = folder / MANIFEST
    if not path.exists():
        return False
    record = read_json(path)
    files = record.get("files") if isinstance(record, dict) else None
    if not isinstance(files, dict) or record.get("fingerprint") != hash_config(files):
        raise DamagedError(path, "is corrupt (it does not match its own fingerprint)")
    for name, expected in files.items():
        try:
            same = _sha256(folder / name) == expected
        except FileNotFoundError:
            raise DamagedError(folder / name, "is missing") from None
        except OSError as error:
            raise UserError(f"{folder / name} cannot be read ({error}).") from None
        if not same:
            raise DamagedError(folder / name, f"is corrupt (its contents differ from {MANIFEST})")
    return True


def check_given_folder(folder: Path, command: str) -> None:
    """Refuse a folder that a user gave, if it was written by this suite and is no longer what was written.

    Args:
        folder: Any folder.
        command: What makes such a folder.

    Raises:
        DamagedError: Naming the file that differs, and the mend.
    """
    try:
        check_manifest(folder)
    except DamagedError as error:
        raise error.mended_by(
            f"Copy {folder} again from where it was made; in an output of this suite, `{command}` makes it anew with the "
            f"configuration that it was made with. If the change was meant, delete {folder / MANIFEST}."
        ) from None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def build_once(folder: Path, build: Callable[[Path], None]) -> bool:
    """Fill a cache folder once, whoever asks: the first process builds, the others wait for it.

    The work is done in a folder beside it which gets a manifest and is renamed at the end, so ``folder`` exists only
    whole. One that is there is checked; where it is damaged it is set aside and built anew.

    Args:
        folder: Where the product shall be.
        build: Writes the product into the empty folder it is given.

    Returns:
        True if this call built it, False if it was there.

    Raises:
        WriteError: If the disk is full or read-only; what was half written is removed.
    """
    if folder.is_dir() and _whole(folder) is None:
        return False
    from ddoq.storage.locks import locked

    with locked(
        folder.with_name(f".{folder.name}.lock"), f"waiting for {folder}: another process makes it"
    ):
        if folder.is_dir():
            damage = _whole(folder)
            if damage is None:
                return False
            set_aside(folder, damage)
        _build(folder, build)
    return True


def obtain_folder(
    folder: Path, build: Callable[[Path], None], load: Callable[[Path], T]
) -> tuple[T, bool]:
    """Fill a cache folder once, as :func:`build_once` does, and load it.

    Args:
        folder: Where the product shall be.
        build: Writes the product into the empty folder it is given.
        load: Reads the product. What it refuses in a folder from before manifests is taken for damage.

    Returns:
        What ``load`` gives, and whether this call built it.

    Raises:
        UserError: What ``load`` refuses in a folder that is as it was written.
    """
    built = build_once(folder, build)
    try:
        return load(folder), built
    except UserError as error:
        if built or (folder / MANIFEST).exists():
            raise
        _set_old_aside(folder, error)
    built = build_once(folder, build)
    return load(folder), built


def _set_old_aside(folder: Path, error: UserError) -> None:
    """Set aside a folder without a manifest, unless another process has made it anew meanwhile."""
    from filelock import FileLock

    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if folder.is_dir() and not (folder / MANIFEST).exists():
            set_aside(folder, error)


def _whole(folder: Path) -> DamagedError | None:
    """Return what is damaged in a folder, if anything."""
    try:
        if not check_manifest(folder):
            print(
                f"note: {folder} has no {MANIFEST}, as those of earlier versions: it is used unchecked (rename it to have "
                "it made again)",
                file=sys.stderr,
            )
    except DamagedError as error:
        return error
    return None


def _build(folder: Path, build: Callable[[Path], None]) -> None:
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        with writing(folder):
            unfinished.mkdir()
        build(unfinished)
        with writing(folder):
            write_manifest(unfinished)
            unfinished.rename(folder)
    except Exception as error:
        refused = disk_error(error, unfinished)
        if refused is None or refused is error:
            raise
        raise refused from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
