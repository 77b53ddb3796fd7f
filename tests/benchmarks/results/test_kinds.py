"""Kinds of results of their own: what their files hold, what names them, and what of them is set aside."""

import json
from dataclasses import fields

import pytest
from sealed_records import graph_record, transfer_record

from benchmarks.results.graphs import GRAPHS
from benchmarks.results.kinds import KINDS, kind_of
from benchmarks.results.transfers import TRANSFERS
from ddoq.storage.run_folder import RunFolder

RECORDS = {"transfer": transfer_record, "graphs": graph_record}


def written(kind, folder, record=None):
    record = record or RECORDS[kind.what]()
    path = kind.path(RunFolder(folder), record.config_hash)
    kind.write(path, record)
    return path, record


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.what)
def test_a_file_holds_a_record_in_its_order_and_gives_it_back(kind, tmp_path):
    path, record = written(kind, tmp_path)
    values = json.loads(path.read_text())
    names = [item.name for item in fields(record)]
    assert list(values) == ["kind", "format", *names, "checksum"]
    assert (values["kind"], values["format"]) == (f"ddoq-bench {kind.what}", 1)
    assert kind.read(path) == kind.find(path) == record
    assert kind.find(path.with_name("none.json")) is None


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.what)
def test_its_names_are_told_from_others(kind, tmp_path):
    run = RunFolder(tmp_path)
    paths = {other.what: other.path(run, "0123456789abcdef") for other in KINDS}
    assert kind_of(paths[kind.what]) is kind
    assert kind_of(run.result("0123456789abcdef")) is None
    homes = {f(run, "0").parent for f in (kind.path, kind.lock, kind.checkpoint)}
    assert homes == {paths[kind.what].parent}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.what)
def test_a_damaged_file_is_set_aside_when_it_is_looked_for(kind, tmp_path, capsys):
    path, _ = written(kind, tmp_path)
    path.write_text(path.read_text().replace('"seconds": 1.0', '"seconds": 2.0'))
    assert kind.find(path) is None
    assert not path.exists()
    assert "set aside" in capsys.readouterr().err
    assert len(list(path.parent.glob("*.damaged-1"))) == 1


def test_one_kind_is_not_read_as_another(tmp_path):
    written(TRANSFERS, tmp_path)
    path, record = written(GRAPHS, tmp_path)
    assert GRAPHS.read_all(tmp_path) == ([record], [])
    path.rename(path.with_name(f"transfer-{record.config_hash}.json"))
    _, (problem,) = TRANSFERS.read_all(tmp_path / "graphs")
    assert "is no result of transfer" in problem


def test_records_are_sorted_by_name_then_by_seeds(tmp_path):
    for method, seed in (("b", 0), ("a", 1), ("a", 0)):
        written(GRAPHS, tmp_path, graph_record(method, seed))
    records, _ = GRAPHS.read_all(tmp_path)
    assert [(r.cell.method, r.cell.seed) for r in records] == [("a", 0), ("a", 1), ("b", 0)]
