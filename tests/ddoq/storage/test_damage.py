"""Damaged files of the suite's own: set aside under a name that is free, and read as absent."""

import os
import pickle
import threading

import pytest

from ddoq.errors import UserError
from ddoq.storage.damage import DamagedError, read_or_set_aside, set_aside


def read(path):
    if path.read_text() != "good":
        raise DamagedError(path, "is corrupt")
    return "good"


def test_what_is_there_is_read_and_what_is_not_is_none(tmp_path):
    path = tmp_path / "a"
    assert read_or_set_aside(path, read) is None
    path.write_text("good")
    assert read_or_set_aside(path, read) == "good"
    assert os.listdir(tmp_path) == ["a"]


def test_a_damaged_file_is_set_aside_and_named_on_stderr(tmp_path, capsys):
    path = tmp_path / "a.json"
    for number in (1, 2):
        path.write_text(f"bad {number}")
        assert read_or_set_aside(path, read) is None
        assert not path.exists()
        aside = tmp_path / f"a.json.damaged-{number}"
        assert aside.read_text() == f"bad {number}"
        assert capsys.readouterr().err == (
            f"damaged: {path} is corrupt: set aside as {aside}; it is made again\n"
        )


def test_other_errors_leave_the_file_where_it_is(tmp_path):
    path = tmp_path / "a"
    path.write_text("newer")

    def refuse(path):
        raise UserError("of a newer version.")

    with pytest.raises(UserError, match="newer version"):
        read_or_set_aside(path, refuse)
    assert path.exists()


def test_what_another_process_has_made_anew_is_not_set_aside(tmp_path):
    path = tmp_path / "a"
    path.write_text("bad")
    reads = []

    def mended_meanwhile(path):
        reads.append(path.read_text())
        if len(reads) == 1:
            path.write_text("good")
            raise DamagedError(path, "is corrupt")
        return read(path)

    assert read_or_set_aside(path, mended_meanwhile) == "good"
    assert len(reads) == 2


def test_of_many_threads_one_sets_it_aside(tmp_path):
    path = tmp_path / "a"
    path.write_text("bad")
    threads = [threading.Thread(target=read_or_set_aside, args=(path, read)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [name for name in os.listdir(tmp_path) if "damaged" in name] == ["a.damaged-1"]


def test_a_folder_that_cannot_be_renamed_is_named(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_text("bad")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.rename", refuse)
    with pytest.raises(UserError, match=r"a cannot be written \(Permission denied\)"):
        set_aside(path, DamagedError(path, "is corrupt"))


def test_errors_travel_between_processes(tmp_path):
    error = DamagedError(tmp_path / "a", "is corrupt", "Copy it.")
    assert str(pickle.loads(pickle.dumps(error))) == f"{tmp_path / 'a'} is corrupt. Copy it."
