import random

import pytest

from benchmarks.tables.folding import fold
from benchmarks.tables.groups import group


def test_a_row_spans_the_numbers_of_images_it_was_run_with(result_of):
    results = [
        result_of(method=m, ipc=i, top1=i / 100) for m in ("ddoq", "random") for i in (50, 1)
    ]
    results.append(result_of(method="ddoq", ipc=10))
    (only,) = group(results)
    assert only.budgets == [1, 10, 50]
    assert sorted(row.label for row in only.whole.rows) == ["ddoq", "random"]
    assert [[row.label for row in table.rows] for table in only.tables] == [
        ["ddoq", "random"],
        ["ddoq"],
        ["ddoq", "random"],
    ]
    assert only.row(only.tables[1], "random") is None
    assert only.tables[2].rows[0].score("resnet18").mean == 0.5


def test_results_come_back_as_they_were(result_of):
    results = [result_of(ipc=i, seed=s) for i in (1, 10) for s in (0, 1)]
    (only,) = group(results)
    found = {r.config_hash: r for table in only.tables for r in table.results}
    assert found == {result.config_hash: result for result in results}


def test_settings_never_share_a_curve(result_of):
    results = [
        result_of(ipc=1, settings={"power": 1.0}),
        result_of(ipc=10, settings={"power": 1.0}),
        result_of(ipc=10, settings={"power": 0.5}),
    ]
    (only,) = group(results)
    assert {row.label: sorted(r.cell.ipc for r in row.results) for row in only.whole.rows} == {
        "ddoq [power=1.0]": [1, 10],
        "ddoq [power=0.5]": [10],
    }
    assert only.tables[0].rows[0].label == "ddoq [power=1.0]"


def test_imported_sets_are_rows_of_their_own(result_of):
    results = [result_of(method="imported", ipc=i, imported=f"set{i}") for i in (1, 10)]
    (only,) = group(results)
    assert len(only.whole.rows) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"data": {"name": "other"}},
        {"data": {"limit_per_class": 5}},
        {"recipe": {"epochs": 6}},
        {"recipe_label": "hard", "recipe": {"labels": "hard"}},
    ],
)
def test_unequal_conditions_are_groups_of_their_own(result_of, change):
    groups = group([result_of(ipc=1), result_of(ipc=10, **change)])
    assert [each.budgets for each in groups] in ([[1], [10]], [[10], [1]])


def test_tables_hold_what_the_folded_tables_hold(result_of):
    generator = random.Random(1)
    results = [
        result_of(method=m, ipc=i, student=s, seed=seed, top1=generator.random())
        for m in ("a", "b", "c")
        for i in (1, 10)
        for s in ("vit", "resnet18")
        for seed in (0, 1)
        if (m, s) != ("c", "vit")
    ]

    def shown(table):
        cells = [[row.score(column) for column in table.columns] for row in table.rows]
        return table.ipc, table.columns, [row.label for row in table.rows], cells

    expected = [shown(table) for table in fold(results)]
    for _ in range(3):
        generator.shuffle(results)
        assert [shown(table) for each in group(results) for table in each.tables] == expected


def test_students_of_one_table_alone_are_no_columns_of_the_others(result_of):
    (only,) = group([result_of(ipc=1, student="vit"), result_of(ipc=10)])
    assert [table.columns for table in only.tables] == [["vit"], ["resnet18"]]


def test_group_of_nothing_is_nothing():
    assert group([]) == []
