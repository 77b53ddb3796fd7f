"""What a run keeps beside a distilled set."""

import json

import pytest

from benchmarks.run.kept import keep_configuration
from ddoq.storage.disk import WriteError


def test_a_configuration_that_is_there_is_not_written_again(tmp_path):
    path = tmp_path / "config.json"
    keep_configuration(path, {"seeds": (0, 1)})
    assert json.loads(path.read_text()) == {"seeds": [0, 1]}
    before = path.stat().st_mtime_ns
    keep_configuration(path, {"seeds": (0, 1)})
    assert path.stat().st_mtime_ns == before
    keep_configuration(path, {"seeds": (0,)})
    assert json.loads(path.read_text()) == {"seeds": [0]}


def test_what_is_damaged_is_replaced(tmp_path):
    path = tmp_path / "config.json"
    path.write_text("{")
    keep_configuration(path, {"seeds": [0]})
    assert json.loads(path.read_text()) == {"seeds": [0]}


@pytest.mark.parametrize("read_only", [True, False])
def test_only_a_place_that_takes_nothing_may_lack_it(tmp_path, monkeypatch, capsys, read_only):
    def refuse(*_):
        error = WriteError("No room.")
        error.read_only = read_only
        raise error

    monkeypatch.setattr("benchmarks.run.kept.write_json", refuse)
    if read_only:
        keep_configuration(tmp_path / "config.json", {})
        assert "not kept there" in capsys.readouterr().out
    else:
        with pytest.raises(WriteError):
            keep_configuration(tmp_path / "config.json", {})
