import json
import sys
import threading

import pytest
import torch
from sealed_records import graph_record

from benchmarks.results.columns import flat, flat_sealed
from benchmarks.results.graphs import GRAPHS
from benchmarks.tables.folding import in_order
from benchmarks.tracking.artifacts import (
    _once,
    artifact_name,
    log_distilled_set,
    log_leaderboard,
    log_record,
    log_sealed_leaderboard,
    table_of,
)
from benchmarks.tracking.loggers import WandbOptions
from ddoq.distillation.distilled_set import DistilledSet
from ddoq.distillation.figures import image_sheet
from ddoq.storage.files import write_json
from ddoq.storage.fingerprints import hash_config
from ddoq.storage.run_folder import RunFolder

OFFLINE = WandbOptions(group="a suite")


def read_run(folder, offline_records):
    """Return the run, its artifacts and its exit code."""
    (path,) = folder.rglob("*.wandb")
    found = offline_records(path)
    runs = [record.run for record in found if record.WhichOneof("record_type") == "run"]
    artifacts = [r.artifact for r in found if r.WhichOneof("record_type") == "artifact"]
    (code,) = [r.exit.exit_code for r in found if r.WhichOneof("record_type") == "exit"]
    return runs[0], {artifact.name: artifact for artifact in artifacts}, code


def wandb_runs(output):
    return sorted((output / "wandb").rglob("*.wandb"))


@pytest.fixture
def stored(tmp_path):
    images = torch.arange(2 * 3 * 4 * 4, dtype=torch.uint8).reshape(2, 3, 4, 4)
    record = {
        "method": "random",
        "ipc": 1,
        "seed": 3,
        "settings": {"ipc": 1, "seed": 3},
        "context": {"format": 1, "data": "d"},
        "data": {"name": "user/toy"},
        "cost": {"seconds": 1.5},
    }
    made = DistilledSet(images, torch.tensor([0, 1]), torch.ones(2), ["a", "b"], record)
    folder = tmp_path / "runs" / "distilled" / "random"
    made.save(folder)
    image_sheet(images, made.labels, made.weights, made.class_names, folder / "images.png")
    write_json(folder / "config.json", {"of": "a later run"})
    return made, folder


def test_a_set_is_two_artifacts_in_one_run_without_copies_of_its_images(
    stored, tmp_path, offline_records
):
    pytest.importorskip("wandb")
    made, folder = stored
    output = tmp_path / "runs"
    assert log_distilled_set(OFFLINE, folder, output, {"model": {"ipc": 1}})
    run, artifacts, code = read_run(output / "wandb", offline_records)
    assert (run.job_type, run.run_group, code) == ("distill", "a suite", 0)
    assert set(artifacts) == {"random-user-toy-ipc1", "random-user-toy-ipc1-config"}
    artifact = artifacts["random-user-toy-ipc1"]
    assert artifact.type == "distilled-set"
    assert set(artifact.aliases) == {"latest", made.fingerprint}
    metadata = json.loads(artifact.metadata)
    assert metadata["fingerprint"] == made.fingerprint
    whole = {"method": "random", "settings": {"ipc": 1, "seed": 3}, "format": 1, "data": "d"}
    assert metadata["config_hash"] == hash_config(whole)
    paths = {entry.path: entry.local_path for entry in artifact.manifest.contents}
    assert set(paths) == {"distilled.safetensors", "metadata.json", "config.json", "images.png"}
    assert paths["distilled.safetensors"] == str((folder / "distilled.safetensors").resolve())
    assert len(list(tmp_path.rglob("*.safetensors"))) == 1
    (entry,) = artifacts["random-user-toy-ipc1-config"].manifest.contents
    with open(entry.local_path) as file:  # this run's, whatever later runs write beside the set
        assert json.load(file) == {"model": {"ipc": 1}}


def test_a_set_is_logged_once_for_a_project(stored, tmp_path):
    pytest.importorskip("wandb")
    _, folder = stored
    output = tmp_path / "runs"
    logged = [log_distilled_set(OFFLINE, folder, output, {}) for _ in range(2)]
    assert logged == [True, False]
    other = WandbOptions(group="another suite", tags=["tag"])
    assert not log_distilled_set(other, folder, output, {})
    assert len(wandb_runs(output)) == 1
    assert log_distilled_set(WandbOptions(project="another"), folder, output, {})


@pytest.mark.parametrize("options", [WandbOptions(mode="disabled"), WandbOptions(artifacts=False)])
def test_artifacts_can_be_switched_off(stored, tmp_path, options):
    assert not log_distilled_set(options, stored[1], tmp_path / "runs", {})
    assert not (tmp_path / "runs" / "wandb").exists()


def test_without_wandb_nothing_is_logged_and_sending_is_a_warning(stored, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert not log_distilled_set(OFFLINE, stored[1], tmp_path / "runs", {})
    with pytest.warns(UserWarning, match=r"the distilled set: .*pip install wandb"):
        log_distilled_set(WandbOptions(mode="online"), stored[1], tmp_path / "runs", {})


def test_trouble_is_a_warning_and_is_tried_again(stored, tmp_path, offline_records):
    pytest.importorskip("wandb")
    _, folder = stored
    tensors = (folder / "distilled.safetensors").rename(tmp_path / "elsewhere")
    with pytest.warns(UserWarning, match="W&B has not got the distilled set: ValueError"):
        assert not log_distilled_set(OFFLINE, folder, tmp_path / "runs", {})
    assert read_run(tmp_path / "runs" / "wandb", offline_records)[2] == 1
    tensors.rename(folder / "distilled.safetensors")
    assert log_distilled_set(OFFLINE, folder, tmp_path / "runs", {})


def test_the_leaderboard_is_one_table_in_a_run_of_its_own(tmp_path, result_of, offline_records):
    pytest.importorskip("wandb")
    results = [result_of(student="vit", top1=0.25), result_of(top1=0.5), result_of(imported="x")]
    assert log_leaderboard(OFFLINE, "s/1", tmp_path, results)
    assert not log_leaderboard(OFFLINE, "s/1", tmp_path, results[::-1])
    run, artifacts, code = read_run(tmp_path, offline_records)
    assert (run.job_type, run.run_group, code) == ("leaderboard", "a suite", 0)
    (artifact,) = artifacts.values()
    assert artifact.type == "run_table"
    (path,) = tmp_path.rglob("files/media/table/*.table.json")
    table = json.loads(path.read_text())
    assert table["columns"] == list(flat(results[0]))
    expected = {result.config_hash: list(flat(result).values()) for result in results}
    read = {row[table["columns"].index("config_hash")]: row for row in table["data"]}
    assert read == expected
    assert read[results[2].config_hash][table["columns"].index("distill_seed")] is None


def test_a_changed_result_makes_another_table(tmp_path, result_of):
    pytest.importorskip("wandb")
    assert log_leaderboard(OFFLINE, "s", tmp_path, [result_of()])
    assert log_leaderboard(OFFLINE, "s", tmp_path, [result_of(), result_of(seed=1)])
    assert len(wandb_runs(tmp_path)) == 2


def test_results_of_other_kinds_are_runs_and_a_table(tmp_path, offline_records):
    pytest.importorskip("wandb")
    records = [graph_record(seed=seed) for seed in (1, 0)]
    assert log_record(OFFLINE, tmp_path / "one", records[0])
    run, artifacts, code = read_run(tmp_path / "one", offline_records)
    assert (run.job_type, run.run_group, code) == ("student", "a suite", 0)
    assert run.display_name == "doscond-ipc10-gcn-s1"
    assert artifacts == {}
    (path,) = (tmp_path / "one").rglob("*.wandb")
    assert path.is_relative_to(RunFolder(tmp_path / "one").students)
    assert log_sealed_leaderboard(OFFLINE, "s", tmp_path / "two", GRAPHS, records)
    assert not log_sealed_leaderboard(OFFLINE, "s", tmp_path / "two", GRAPHS, records[::-1])
    (path,) = (tmp_path / "two").rglob("files/media/table/*.table.json")
    table = json.loads(path.read_text())
    assert table["columns"] == list(flat_sealed(records[0]))
    assert [row[table["columns"].index("seed")] for row in table["data"]] == [0, 1]


def test_no_results_make_no_run(tmp_path):
    assert not log_leaderboard(OFFLINE, "s", tmp_path, [])
    assert not log_sealed_leaderboard(OFFLINE, "s", tmp_path, GRAPHS, [])
    assert not log_record(WandbOptions(mode="disabled"), tmp_path, graph_record())
    assert not list(tmp_path.iterdir())


def test_rows_are_those_of_the_csv_and_columns_have_one_type(result_of, monkeypatch):
    results = [result_of(seed=1), result_of(seed=0, data={"image_size": "8x8"})]
    columns, rows = table_of([flat(result) for result in in_order(results)])
    assert [row[columns.index("seed")] for row in rows] == [0, 1]
    assert [row[columns.index("data_image_size")] for row in rows] == ["8x8", "8"]
    assert {type(row[columns.index("modified")]) for row in rows} == {bool}


def test_names_fit_wandb():
    assert artifact_name("sre2l", "a b/ü", 1) == "sre2l-a-b-ipc1"
    assert len(artifact_name("m" * 300, "d", 10)) <= 128


def test_of_two_at_once_one_logs(tmp_path, capsys):
    place, what, heard = ("distill", "set"), {"set": "0123"}, []

    def second() -> None:
        with _once(RunFolder(tmp_path), place, what) as new:
            heard.append(new)

    thread = threading.Thread(target=second)
    with _once(RunFolder(tmp_path), place, what) as new:
        assert new
        thread.start()
        while "another process" not in capsys.readouterr().out:
            assert not heard
    thread.join()
    assert heard == [False]
