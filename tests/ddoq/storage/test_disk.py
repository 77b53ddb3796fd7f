"""What a disk refuses: said with the path, the reason and what is free, and told apart from other mistakes."""

import errno
import os
import shutil
from pathlib import Path

import pytest
from safetensors import SafetensorError

from ddoq.errors import UserError
from ddoq.storage.disk import WriteError, check_output, disk_error, free_bytes, writing


@pytest.fixture
def nearly_full(monkeypatch):
    usage = shutil.disk_usage("/")._replace(free=1_300_000)
    monkeypatch.setattr("ddoq.storage.disk.shutil.disk_usage", lambda path: usage)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_said_with_what_is_needed_and_free(number, nearly_full, tmp_path):
    with (
        pytest.raises(
            WriteError,
            match=rf"a/b cannot be written \({os.strerror(number)}; it takes 2\.0 MB; its disk has 1\.3 MB free\)\. Free",
        ) as raised,
        writing(tmp_path / "a" / "b", needed=2_000_000),
    ):
        raise OSError(number, os.strerror(number))
    assert not raised.value.read_only


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_a_place_without_the_right_to_write_is_told_apart(number):
    with (
        pytest.raises(WriteError, match=r"\. Give another --output, or the right") as raised,
        writing(Path("runs")),
    ):
        raise OSError(number, os.strerror(number))
    assert raised.value.read_only


def test_what_safetensors_wraps_is_understood():
    error = SafetensorError("I/O error: No space left on device (os error 28)")
    with pytest.raises(WriteError, match="No space left on device"), writing(Path("a")):
        raise error
    assert isinstance(disk_error(error, Path("runs")), WriteError)


def test_other_errors_pass():
    for error in (ValueError("no number"), SafetensorError("invalid header"), UserError("mine")):
        with pytest.raises(type(error), match=str(error)), writing(Path("a")):
            raise error
        assert disk_error(error, Path("a")) is None
    with pytest.raises(WriteError, match="a cannot be written"), writing(Path("a")):
        raise NotADirectoryError(errno.ENOTDIR, "Not a directory")


def test_a_full_disk_is_seen_behind_other_errors():
    outer = RuntimeError("training failed")
    outer.__cause__ = OSError(errno.ENOSPC, "No space left on device", "/deep/file")
    assert "/deep/file cannot be written" in str(disk_error(outer, Path("runs")))
    outer.__cause__ = WriteError("said already")
    assert disk_error(outer, Path("runs")) is outer.__cause__


def test_a_file_elsewhere_that_may_not_be_read_is_no_matter_of_the_disk():
    denied = PermissionError(errno.EACCES, "Permission denied", "/data/image.png")
    assert disk_error(denied, Path("/work/runs")) is None
    assert disk_error(denied, Path("/data")) is not None


def test_free_space_of_a_folder_that_is_not_there_yet(tmp_path):
    assert free_bytes(tmp_path / "a" / "b") == pytest.approx(free_bytes(tmp_path), rel=0.1)


def test_an_output_is_a_folder_or_can_be_made(tmp_path, monkeypatch):
    check_output(tmp_path)
    check_output(tmp_path / "new" / "deep")
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match=r"--output .*file is a file. Give a folder"):
            check_output(path)
    monkeypatch.setattr("os.access", lambda *_: False)
    check_output(tmp_path)  # what is cached in it may be all that is needed
    with pytest.raises(UserError, match="cannot be made"):
        check_output(tmp_path / "new")
