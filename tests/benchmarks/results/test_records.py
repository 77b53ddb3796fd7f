"""Records and their hashes: what was stored by earlier versions keeps its name."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.results.columns import flat
from benchmarks.results.kinds import KINDS, kind_of
from benchmarks.results.records import CellConfig, JointConfig, SetConfig
from benchmarks.students.recipes import Recipe
from benchmarks.students.student import Student
from benchmarks.tables.cell_table import cell_table
from ddoq.storage.fingerprints import hash_config
from ddoq.storage.records import hashed_fields

RESULTS = Path(__file__).parents[3] / "results"
FILES = [path for path in sorted(RESULTS.glob("*/*.json")) if kind_of(path) is None]
SEALED = [path for path in sorted(RESULTS.rglob("*.json")) if kind_of(path) is not None]


def rebuilt(config: dict[str, Any]) -> CellConfig:
    """Put a stored configuration through the records that runs make today."""
    recipe = Recipe(**{key: _tuples(value) for key, value in config["recipe"].items()})
    return CellConfig(
        format=config["format"],
        data=config["data"],
        distilled=SetConfig(**config["distilled"]),
        teacher=config["teacher"],
        recipe=recipe.config(),
        student=hashed_fields(Student(**config["student"])),
        seed=config["seed"],
        precision=config["precision"],
    )


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


@pytest.mark.parametrize("folder", sorted({path.parent.name for path in FILES}))
def test_a_run_of_today_finds_the_results_of_earlier_ones(folder):
    paths = [path for path in FILES if path.parent.name == folder]
    assert paths
    for path in paths:
        config = json.loads(path.read_text(encoding="utf-8"))["config"]
        assert hash_config(rebuilt(config).record()) == path.stem


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.what)
def test_results_of_other_kinds_are_named_by_their_hash(kind):
    paths = [path for path in SEALED if kind_of(path) is kind]
    assert paths
    for path in paths:
        assert path.stem.endswith(kind.read(path).config_hash)


def config(**changes: Any) -> CellConfig:
    made = SetConfig("ddoq", 10, 0, {"ipc": 10}, {"prior": "p"}, "f")
    values = {"format": 1, "data": {}, "distilled": made, "teacher": None, "recipe": {}}
    values |= {"student": {}, "seed": 0, "precision": "32-true"}
    return CellConfig(**{**values, **changes})


def test_what_a_cell_does_not_use_is_not_in_its_record():
    record = config().record()
    assert not {"label_format", "evaluation"} & record.keys()
    assert set(record["distilled"]) == {
        *("method", "ipc", "seed", "settings", "context", "fingerprint"),
    }


def test_what_it_uses_tells_it_from_others():
    made = {"method": "m", "ipc": 1, "seed": 0, "settings": {}, "context": {}}
    changes = [
        {},
        {"label_format": 1},
        {"evaluation": JointConfig(2, sync_batchnorm=True)},
        {"evaluation": JointConfig(2, sync_batchnorm=False)},
        {"distilled": SetConfig.of(made, "f")},
        {"distilled": SetConfig.of({**made, "collage": 2}, "f")},
        {"distilled": SetConfig.of({**made, "set_precision": "uint8"}, "f")},
    ]
    records = [config(**change).record() for change in changes]
    assert len({hash_config(record) for record in records}) == len(changes)
    assert records[2]["evaluation"] == {"world_size": 2, "sync_batchnorm": True}


def test_a_set_from_elsewhere_has_gaps():
    assert SetConfig.of({"method": "rded", "ipc": 10}, "f") == SetConfig(
        "rded", 10, None, None, None, "f"
    )


def test_warnings_are_written_only_where_there_are_any(result_of):
    plain_row = result_of()
    assert "warnings" not in plain_row.record()
    warned = replace(plain_row, warnings=["at chance"])
    assert warned.record()["warnings"] == ["at chance"]
    assert warned.config_hash == plain_row.config_hash


def test_top_5_tells_nothing_of_five_classes(result_of):
    few, many = result_of(data={"num_classes": 5}), result_of(data={"num_classes": 6})
    assert flat(few)["top5_last"] is None
    assert flat(many)["top5_last"] == 1.0
    assert list(flat(few)) == list(flat(many))
    assert "top-5" not in cell_table([few])
    assert "top-5" in cell_table([many])


def test_what_a_set_took_has_columns(result_of):
    experts = {"seconds": 20.0, "bytes": 700, "peak_memory": {"resident_bytes": 8}, "loss": 1.5}
    other = {"seconds": 5.0, "bytes": None, "peak_memory": {"resident_bytes": 9, "cuda_bytes": 2}}
    cost = {"seconds": 7.0, "peak_memory": {"resident_bytes": 6, "cuda_bytes": None}}
    made = {"cost": cost, "ingredients": {"experts": experts, "base.other": other}}
    bytes_ = {"uint8_bytes": 10, "float_bytes": 40}
    line = flat(replace(result_of(), distilled={**made, **bytes_}))
    assert (line["ingredient_seconds"], line["ingredient_bytes"]) == (25.0, 700)
    assert (line["ingredient_peak_resident_bytes"], line["ingredient_peak_cuda_bytes"]) == (9, 2)
    assert (line["distilled_peak_resident_bytes"], line["distilled_peak_cuda_bytes"]) == (6, None)
    assert (line["distilled_uint8_bytes"], line["distilled_float_bytes"]) == (10, 40)


def test_what_an_old_result_does_not_know_of_its_set_is_none(result_of):
    line = flat(result_of())
    unknown = [name for name in line if name.startswith(("ingredient_", "distilled_peak_"))]
    assert len(unknown) == 6
    assert {line[name] for name in (*unknown, "distilled_float_bytes")} == {None}
