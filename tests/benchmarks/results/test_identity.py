import dataclasses

import pytest

from benchmarks.results.files import read_folder, write_result
from benchmarks.results.identity import comparable, training_of
from benchmarks.tables.folding import fold
from ddoq.storage.fingerprints import hash_config
from ddoq.storage.keys import seen_key

DATA = {"name": "toy", "source": "abc", "image_size": 8, "mean": [0.5], "test_images": 30}


def named(result, name, seed=0):
    """Return a result of a version that kept a student's display name in the configuration."""
    config = {**result.config, "student": {**result.config["student"], "name": name}}
    return dataclasses.replace(
        result, cell=dataclasses.replace(result.cell, student=name), config=config
    )


def test_one_training_under_two_names_counts_once(tmp_path, result_of):
    first, second = named(result_of(), "a"), named(result_of(), "b")
    assert first.config_hash != second.config_hash
    kept = write_result(tmp_path / "one", first)
    other = write_result(tmp_path / "two", second)
    reading = read_folder(tmp_path)
    assert (reading.results, reading.problems) == ([first], [])
    assert [str(other) in note and str(kept) in note for note in reading.notes] == [True]
    assert "called 'a' there and 'b' here" in reading.notes[0]


@pytest.mark.parametrize(
    "config", [{"precision": "32"}, {"student": {"arch": "resnet18", "kwargs": {}, "name": "x"}}]
)
def test_equal_seeds_are_no_repetitions(tmp_path, result_of, config):
    write_result(tmp_path / "a", result_of(seed=0))
    write_result(tmp_path / "a", result_of(seed=1))
    write_result(tmp_path / "b", result_of(seed=0, config=config))
    (table,) = fold(read_folder(tmp_path).results)
    assert [table.rows[0].score(column).n for column in table.columns] == [2]


def test_contradictions_are_problems(tmp_path, result_of):
    write_result(tmp_path / "a", result_of(top1=0.5))
    other = write_result(tmp_path / "b", result_of(top1=0.6, config={"precision": "32"}))
    reading = read_folder(tmp_path)
    assert [result.metrics.top1_last for result in reading.results] == [0.5]
    assert str(other) in reading.problems[0]
    assert "with other numbers" in reading.problems[0]
    assert reading.notes == []


def test_other_bits_of_a_set_are_no_other_seed(result_of):
    one = result_of()
    distilled = {**one.config["distilled"], "fingerprint": "of another machine"}
    other = dataclasses.replace(one, config={**one.config, "distilled": distilled})
    assert training_of(one) == training_of(other)
    assert training_of(one) != training_of(result_of(seed=1))
    assert training_of(one) != training_of(result_of(distill_seed=1))
    assert training_of(result_of(imported="a")) != training_of(result_of(imported="b"))


def test_sets_of_all_versions_of_one_dataset_are_one_row():
    keys = [hash_config(DATA), seen_key(DATA), seen_key(DATA, normalized=True), "another"]
    configs = [{"data": DATA, "distilled": {"context": {"data": key}}} for key in keys]
    assert [comparable(c)["distilled"]["context"] for c in configs] == [{}] * 3 + [
        {"data": "another"}
    ]
