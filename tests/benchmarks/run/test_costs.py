"""The columns of what a cell cost, in new results and in old ones."""

from dataclasses import replace

import pytest

from benchmarks.results.columns import flat
from benchmarks.tables.folding import fold
from benchmarks.tables.summaries import FURTHER

COSTS = ("flops", "teacher_flops", "test_flops", "device_hours")


def further(result):
    (table,) = fold([result])
    (row,) = table.rows
    return {column.heading: column.text(row, table.columns) for column in FURTHER}


def test_device_hours_count_every_rank(result_of):
    # 2 seconds on 4 ranks.
    assert result_of(world_size=4).cost["device_hours"] == pytest.approx(2 * 4 / 3600)


def test_operations_are_columns(result_of):
    result = result_of()
    result = replace(
        result,
        cost={**result.cost, "flops": 3 * 10**12, "teacher_flops": 10**12, "test_flops": 5},
        distilled={**result.distilled, "cost": {"flops": 25 * 10**11}},
    )
    line = flat(result)
    assert [line[name] for name in COSTS[:3]] == [3 * 10**12, 10**12, 5]
    assert line["distilled_flops"] == 25 * 10**11
    told = further(result)
    assert told["TFLOP to distil"] == "2.5"
    assert told["TFLOP to train"] == "3"


def test_old_results_do_not_know_theirs(result_of):
    result = result_of()
    old = {name: value for name, value in result.cost.items() if name not in COSTS}
    result = replace(result, cost=old)
    assert [flat(result)[name] for name in COSTS] == [None] * 4
    assert further(result)["TFLOP to train"] == ""
