"""Runs on disks that are full or read-only: one line, status 2, nothing half; all cached needs no writing."""

import ctypes
import errno
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from benchmarks.cli import main
from ddoq.storage import files

TINY = Path(__file__).parent.parent / "configs" / "tiny.yaml"


def arguments(folder, output):
    content = {
        "extends": [str(TINY)],
        "data": {
            "class_path": "Digits",
            "init_args": {"limit_per_class": 12, "test_limit_per_class": 5},
        },
        "model": {"class_path": "RandomSelection", "init_args": {"ipc": 1}},
        "recipe": {"name": "unified", "overrides": {"epochs": 1}},
    }
    path = folder / "random.yaml"
    path.write_text(yaml.safe_dump(content))
    return ["fit", "--config", str(path), "--output", str(output)]


@pytest.fixture(scope="module")
def cached(tmp_path_factory):
    """An output in which all is done."""
    folder = tmp_path_factory.mktemp("cached")
    assert main(arguments(folder, folder / "runs")) == 0
    return folder / "runs"


@pytest.fixture
def output(cached, tmp_path):
    shutil.copytree(cached, tmp_path / "runs")
    return tmp_path / "runs"


def left_half(output):
    return [str(p) for p in output.rglob("*") if p.name.endswith((".tmp", ".unfinished"))]


@pytest.mark.parametrize("below", ["", "deeper"])
def test_an_output_that_is_a_file(tmp_path, capsys, below):
    (tmp_path / "runs").write_text("in the way")
    assert main(arguments(tmp_path, tmp_path / "runs" / below)) == 2
    error = capsys.readouterr().err
    assert f"{tmp_path / 'runs'} is a file" in error
    assert error.count("error:") == 1


# What is missing is made again; the disk is full from the file on whose path has the second part.
PLACES = [
    ("teachers", "teachers"),
    ("shards distilled", "shards"),
    ("distilled", "metadata.json"),
    ("distilled", "distilled.safetensors"),
    ("results", "results"),
]


@pytest.mark.parametrize(("missing", "full"), PLACES)
def test_a_disk_that_fills_up(output, tmp_path, capsys, monkeypatch, missing, full):
    for name in missing.split():
        shutil.rmtree(output / name)
    replace = os.replace

    def refuse(source, target):
        if full in str(target):
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    before = {path for path in output.rglob("*.json") if full not in str(path)}
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "replace", refuse)
        assert main(arguments(tmp_path, output)) == 2
    error = capsys.readouterr().err
    assert error.count("error:") == 1
    assert "Traceback" not in error
    assert "cannot be written (No space left on device; its disk has" in error
    assert full in error
    assert left_half(output) == []
    assert all(path.exists() for path in before)
    assert main(arguments(tmp_path, output)) == 0  # once there is room


def test_a_disk_that_fills_up_under_the_curves_of_a_student(output, tmp_path, capsys, monkeypatch):
    shutil.rmtree(output / "results")

    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device", str(output / "students" / "m.csv"))

    monkeypatch.setattr("lightning.pytorch.loggers.CSVLogger.save", refuse)
    assert main(arguments(tmp_path, output)) == 2
    error = capsys.readouterr().err
    assert "students/m.csv cannot be written (No space left on device" in error
    assert error.count("error:") == 1
    assert not list(output.glob("failures/*"))


_VERSION, _OVERRIDE = 0x20080522, 1  # of Linux' capabilities; the right to write whatever modes say


@contextmanager
def bound_by_modes():
    """Let file modes hold, also where root runs the tests: root then reads everything and writes what it may."""
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header, before = (ctypes.c_uint32 * 2)(_VERSION, 0), (ctypes.c_uint32 * 6)()
    if libc.capget(header, before) != 0:
        pytest.skip("this system has no capabilities that root could give up")
    bound = (ctypes.c_uint32 * 6)(*before)
    bound[0] &= ~(1 << _OVERRIDE)
    assert libc.capset(header, bound) == 0
    try:
        yield
    finally:
        assert libc.capset(header, before) == 0


@pytest.fixture
def read_only(output, tmp_path):
    """The folder of an output that nobody may write to."""
    arguments(tmp_path, output)
    paths = [tmp_path, *tmp_path.rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield tmp_path
    for path in paths:
        path.chmod(0o755)


def test_a_read_only_output_where_all_is_cached_is_read(read_only, capsys):
    before = {path: path.stat().st_mtime_ns for path in read_only.rglob("*")}
    fit = ["fit", "--config", str(read_only / "random.yaml"), "--output", str(read_only / "runs")]
    with bound_by_modes():
        with pytest.raises(PermissionError):
            (read_only / "runs" / "x").write_text("")
        assert main(fit) == 0
        shown = capsys.readouterr()
        assert "(n=1)" in shown.out
        assert "error" not in shown.err
        assert main([*fit, "--seeds", "[1]"]) == 2  # which would have to be written
    error = capsys.readouterr().err
    assert str(read_only / "runs") in error
    assert "cannot be written (Permission denied). Give another --output" in error
    assert {path: path.stat().st_mtime_ns for path in read_only.rglob("*")} == before
