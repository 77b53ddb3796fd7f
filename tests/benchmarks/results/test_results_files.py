import dataclasses
import json
import math
import subprocess
import sys

import pytest

from benchmarks.results.files import (
    Reading,
    find_result,
    read_failures,
    read_folder,
    read_result,
    read_results,
    write_failure,
    write_result,
)
from benchmarks.results.records import Metrics
from ddoq.errors import UserError
from ddoq.storage.files import write_json
from ddoq.storage.fingerprints import hash_config
from ddoq.storage.run_folder import RunFolder


def edit(path, change):
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def reseal(record):
    """Hash a record anew, as a careful forger or a newer version would."""
    record["record_hash"] = hash_config({k: v for k, v in record.items() if k != "record_hash"})


def test_round_trip_and_name(tmp_path, result_of):
    result = result_of()
    path = write_result(tmp_path, result)
    assert path.name == f"{hash_config(result.config)}.json"
    assert read_result(path) == result
    assert list(tmp_path.iterdir()) == [path]  # nothing temporary stays


def test_find_takes_the_whole_configuration(tmp_path, result_of):
    result = result_of()
    write_result(tmp_path, result)
    assert find_result(tmp_path, result.config) == result
    changed = {**result.config, "precision": "bf16-mixed"}
    assert find_result(tmp_path, changed) is None
    assert find_result(tmp_path / "nowhere", result.config) is None


def test_tuples_and_paths_hash_as_they_are_read(tmp_path, result_of):
    config = {"crop": (0.5, 1.0), "where": tmp_path, "1": {2: None}}
    result = result_of(config=config)
    assert read_result(write_result(tmp_path, result)) == result
    assert find_result(tmp_path, result.config | config) == result


def test_losses_that_are_not_finite_become_null(tmp_path, result_of):
    result = result_of(loss=math.nan)
    text = write_result(tmp_path, result).read_text()
    assert result.metrics.curve[0]["train_loss"] is None
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


@pytest.mark.parametrize("value", [97.2, -0.1, math.nan, None, True])
def test_accuracies_are_fractions(value):
    with pytest.raises(UserError, match=r"top1_last must be a fraction in \[0, 1\]"):
        Metrics(value, 0.5, 0.5, 0.5, 3)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda r: r["metrics"].update(top1_last=0.99), "changed after it was written"),
        (lambda r: r["distilled"].update(seconds=0), "changed after it was written"),
        (lambda r: r["config"].update(seed=7), "does not hash to its own name"),
        (lambda r: r.update(format=99), "has format 99, this version reads 1"),
        (lambda r: r.pop("provenance"), "lacks provenance"),
        (lambda r: r.pop("record_hash"), "lacks record_hash"),
        (lambda r: r.update(config=[]), "no mapping under config"),
        (lambda r: (r["cell"].pop("student"), reseal(r)), "missing or wrong 'student'"),
        (lambda r: (r["cell"].update(ipc="ten"), reseal(r)), "cell.ipc must be an integer"),
        (lambda r: (r["metrics"].update(top1_best=98), reseal(r)), "top1_best must be a fraction"),
        (lambda r: r.pop("kind"), "is not a result file"),
    ],
)
def test_what_cannot_be_trusted_is_left_out_and_named(tmp_path, result_of, change, reason):
    good = result_of(seed=1)
    write_result(tmp_path, good)
    bad = write_result(tmp_path, result_of())
    edit(bad, change)
    results, problems = read_results(tmp_path)
    assert results == [good]
    assert len(problems) == 1
    assert str(bad) in problems[0]
    assert reason in problems[0]
    with pytest.raises(UserError):
        read_result(bad)


@pytest.mark.parametrize("content", ["", '{"kind": "ddoq-bench res', "[1]", "\x00\x01"])
def test_corrupt_files_are_left_out_and_named(tmp_path, result_of, content):
    path = write_result(tmp_path, result_of())
    path.write_text(content)
    results, problems = read_results(tmp_path)
    assert results == []
    assert [str(path) in problem for problem in problems] == [True]


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_damaged_result_is_set_aside_and_not_reused(tmp_path, capsys, result_of, damage):
    result = result_of(top1=0.5)
    path = write_result(tmp_path, result)
    whole = path.read_text()
    text = {"flip": whole.replace("0.5", "0.7"), "cut": whole[:-9], "empty": ""}[damage]
    path.write_text(text)
    assert find_result(tmp_path, result.config) is None
    assert path.with_name(f"{path.name}.damaged-1").read_text() == text
    assert str(path) in capsys.readouterr().err
    assert read_results(tmp_path) == ([], [])  # whoever looks for results is not told of it again
    write_result(tmp_path, result)
    assert find_result(tmp_path, result.config) == result


def test_a_result_of_a_newer_version_is_neither_used_nor_set_aside(tmp_path, result_of):
    result = result_of()
    path = write_result(tmp_path, result)
    edit(path, lambda r: (r.update(format=99), reseal(r)))
    with pytest.raises(UserError, match=r"has format 99.*Use the version that wrote it"):
        find_result(tmp_path, result.config)
    assert path.is_file()


def test_a_changed_digit_in_a_failure_is_noticed(tmp_path, result_of):
    result = result_of(seed=1)
    path = write_failure(tmp_path, result.cell, "boom", result.config)
    whole = path.read_text()
    path.write_text(whole.replace('"seed": 1', '"seed": 2'))
    failures, problems = read_failures(tmp_path, [])
    assert (failures, len(problems)) == ([], 1)
    assert f"{path} is not a readable failure file" in problems[0]
    edit(path, lambda r: r.pop("checksum"))  # as those of earlier versions are
    assert [failure.cell.seed for failure in read_failures(tmp_path, [])[0]] == [2]


def test_renamed_files_are_noticed(tmp_path, result_of):
    write_result(tmp_path, result_of()).rename(tmp_path / "mine.json")
    results, problems = read_results(tmp_path)
    assert results == []
    assert "does not hash to its own name" in problems[0]


def test_keys_of_later_versions_are_tolerated(tmp_path, result_of):
    result = result_of()
    path = write_result(tmp_path, result)
    edit(path, lambda r: (r.update(mood="good"), r["metrics"].update(top3=0.7), reseal(r)))
    assert read_result(path) == result


def test_other_json_in_a_folder_of_runs_does_not_disturb(tmp_path, result_of):
    result = result_of()
    write_result(tmp_path / "results" / "deeper", result)
    (tmp_path / "distilled").mkdir()
    (tmp_path / "distilled" / "metadata.json").write_text('{"method": "ddoq"}')
    assert read_results(tmp_path) == ([result], [])


def test_copies_count_once_and_contradictions_are_named(tmp_path, result_of):
    first = result_of(top1=0.5)
    write_result(tmp_path / "a", first)
    write_result(tmp_path / "b", first)
    assert read_results(tmp_path) == ([first], [])
    again = dataclasses.replace(first, created="2030-01-01T00:00:00+00:00")
    path = write_result(tmp_path / "b", again)
    reading = read_folder(tmp_path)
    assert (reading.results, reading.problems) == ([first], [])
    assert [str(path) in note for note in reading.notes] == [True]
    metrics = dataclasses.replace(first.metrics, top1_last=0.4)
    write_result(tmp_path / "b", dataclasses.replace(first, metrics=metrics))
    results, problems = read_results(tmp_path)
    assert results == [first]
    assert "same cell with other numbers" in problems[0]


def test_all_that_a_suite_writes_gives_just_results(tmp_path, result_of):
    names = RunFolder(tmp_path)
    path = write_result(names.results, result_of())
    key = "0123456789abcdef"
    records = {
        names.job_report(key): [str(path)],
        names.latents_record(key): {"format": 2},
        names.distilled("ddoq-ipc1-0").record: {"method": "ddoq"},
        names.distilled("ddoq-ipc1-0").config: {"seeds": [0]},
        names.prior("prior-0") / "training.json": {"vae": {}},
        names.teacher("convnet-0") / "teacher.json": {"arch": "convnet"},
        names.labels / key / "labels.json": {"format": 1},
        names.tracked_mark("distill", "a"): {"set": key},
        names.smoke / "suite" / f"{key}.json": [],
    }
    for file, record in records.items():
        write_json(file, record)
    write_result(names.smoke / "results", result_of(seed=7))
    write_failure(names.failures, result_of(seed=8).cell, "boom")
    assert read_folder(tmp_path) == Reading([read_result(path)], [], [])
    broken = names.result("f" * 16)
    broken.write_text("{")
    assert [str(broken) in text for text in read_folder(tmp_path).problems] == [True]
    assert read_folder(names.jobs) == Reading([], [], [])


def test_an_output_called_results_holds_other_files_as_well(tmp_path, result_of):
    names = RunFolder(tmp_path / "results")
    path = write_result(names.results, result_of())
    write_json(names.latents_record("0123456789abcdef"), {"format": 2})
    write_json(names.job_report("0123456789abcdef"), [str(path)])
    assert read_results(names.root) == ([read_result(path)], [])


def test_a_missing_folder_is_a_mistake(tmp_path):
    with pytest.raises(UserError, match="not a folder with results"):
        read_results(tmp_path / "nowhere")


@pytest.mark.parametrize("below", ["", "results"])
def test_failures_are_read_until_a_later_result_voids_them(tmp_path, result_of, below):
    result = result_of()
    (tmp_path / "results").mkdir()
    path = write_failure(tmp_path / "failures", result.cell, "ValueError: boom", result.config)
    failures, problems = read_failures(tmp_path / below, [])
    assert problems == []
    assert [(f.cell, f.error) for f in failures] == [(result.cell, "ValueError: boom")]
    assert read_failures(tmp_path / below, [result])[0] == failures  # it is older than the failure
    later = dataclasses.replace(result, created="2100-01-01T00:00:00.000+00:00")
    other = dataclasses.replace(later, config={**result.config, "teacher": "another"})
    assert read_failures(tmp_path / below, [other])[0] == failures
    assert read_failures(tmp_path / below, [later])[0] == []
    assert read_results(tmp_path) == ([], [])  # a failure is no damaged result
    path.write_text("{")
    assert str(path) in read_failures(tmp_path / below, [])[1][0]


def test_failures_of_equal_names_stay_apart(tmp_path, result_of):
    one, two = result_of(settings={"weight_power": 1.0}), result_of(settings={"weight_power": 0.5})
    assert one.cell == two.cell
    paths = {write_failure(tmp_path, r.cell, "boom", r.config) for r in (one, two)}
    assert len(paths) == 2


def test_long_and_odd_labels_make_usable_names(tmp_path, result_of):
    cell = dataclasses.replace(result_of().cell, student="vit[a/b=" + "x" * 300)
    assert write_failure(tmp_path, cell, "boom").parent == tmp_path


def test_reading_results_does_not_import_torch():
    code = (
        "import sys, benchmarks.results.files, benchmarks.leaderboard.board;"
        "heavy = {'torch', 'safetensors', 'lightning', 'wandb', 'numpy'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_warnings_come_back_and_must_be_texts(result_of, tmp_path):
    result = dataclasses.replace(result_of(), warnings=["at chance"])
    path = write_result(tmp_path, result)
    assert read_result(path) == result
    record = json.loads(path.read_text())
    record["warnings"] = [1]
    path.write_text(json.dumps(record))
    with pytest.raises(UserError, match="no list of texts under warnings"):
        read_result(path)
