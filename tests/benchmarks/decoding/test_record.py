import json
from dataclasses import replace

import pytest

from benchmarks.decoding.record import RECORD_FORMAT, folder_name, read_record
from ddoq.errors import UserError
from ddoq.storage.damage import DamagedError
from ddoq.storage.files import write_sealed


def test_it_comes_back_as_it_was_written(record, tmp_path):
    path = tmp_path / "decoding.json"
    record.write(path)
    assert read_record(path) == record
    assert record.name == folder_name(record.config)
    assert record.real is record.sets[0]


def test_another_configuration_has_another_folder(record):
    other = {**record.config, "seed": 1}
    assert folder_name(other) != record.name
    assert replace(record, config=other).name == folder_name(other)


def test_a_changed_digit_is_noticed(record, tmp_path):
    path = tmp_path / "decoding.json"
    record.write(path)
    values = json.loads(path.read_text())
    values["settings"][0]["recognised"] += 0.1
    path.write_text(json.dumps(values))
    with pytest.raises(DamagedError, match="was changed after it was written"):
        read_record(path)


@pytest.mark.parametrize("values", [[], {"a": 1}, {"format": RECORD_FORMAT, "sets": []}])
def test_other_files_are_damaged(values, tmp_path):
    path = tmp_path / "decoding.json"
    path.write_text(json.dumps(values))
    with pytest.raises(DamagedError):
        read_record(path)


def test_another_format_is_refused(tmp_path):
    write_sealed(tmp_path / "decoding.json", {"format": 99})
    with pytest.raises(UserError, match="another version"):
        read_record(tmp_path / "decoding.json")
