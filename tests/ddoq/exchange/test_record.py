import json

import pytest

from ddoq.errors import UserError
from ddoq.exchange.record import RECORD, read_record, whole_folder, write_record


def test_record_comes_back(tmp_path, make_set):
    distilled = make_set()
    write_record(tmp_path, distilled, "parquet")
    record = read_record(tmp_path)
    assert record["fingerprint"] == distilled.fingerprint
    assert (record["record"], record["layout"]) == (distilled.metadata, "parquet")
    assert record["class_names"] == distilled.class_names


def test_other_folders_have_no_record(tmp_path, make_set):
    assert read_record(tmp_path) is None
    (tmp_path / RECORD).write_text("[1]")
    assert read_record(tmp_path) is None
    make_set().save(tmp_path / "set")  # a distilled set is no export
    assert read_record(tmp_path / "set") is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 99}, "format 99: it was written by a newer version"),
        ({"format": 3}, "format 3: it was written by a newer version"),
        ({"fingerprint": None}, "lacks fingerprint"),
        ({"record": 3}, "damaged"),
    ],
)
def test_damaged_records_are_refused(tmp_path, make_set, change, message):
    write_record(tmp_path, make_set(), "parquet")
    record = {**json.loads((tmp_path / RECORD).read_text()), **change}
    del record["checksum"]
    kept = {key: value for key, value in record.items() if value is not None}
    (tmp_path / RECORD).write_text(json.dumps(kept))
    with pytest.raises(UserError, match=message):
        read_record(tmp_path)


def test_a_changed_digit_in_a_record_is_noticed(tmp_path, make_set):
    write_record(tmp_path, make_set(), "parquet")
    whole = (tmp_path / RECORD).read_text()
    (tmp_path / RECORD).write_text(whole.replace('"format": 1', '"format": 2'))
    with pytest.raises(UserError, match="was changed after it was written"):
        read_record(tmp_path)


def test_folder_appears_whole_and_is_readable_by_all(tmp_path):
    target = tmp_path / "deep" / "out"
    with whole_folder(target) as folder:
        (folder / "a").write_text("x")
        assert not target.exists()
    assert [path.name for path in target.iterdir()] == ["a"]
    assert target.stat().st_mode & 0o777 == 0o755
    assert [path.name for path in target.parent.iterdir()] == ["out"]


def test_nothing_is_left_after_an_error(tmp_path):
    def fail():
        with whole_folder(tmp_path / "out") as folder:
            (folder / "a").write_text("x")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_filled_and_a_full_one_refused(tmp_path):
    (tmp_path / "out").mkdir()
    with whole_folder(tmp_path / "out") as folder:
        (folder / "a").write_text("x")
    with pytest.raises(UserError, match="exists already"), whole_folder(tmp_path / "out"):
        pass
    assert (tmp_path / "out" / "a").read_text() == "x"
    with pytest.raises(UserError, match="Cannot write"), whole_folder(tmp_path / "out" / "a" / "b"):
        pass
