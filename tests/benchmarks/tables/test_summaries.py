from dataclasses import replace

import pytest

from benchmarks.results.columns import flat
from benchmarks.tables.folding import fold
from benchmarks.tables.summaries import FURTHER, known_further, seeds_that_vary


def only_row(results):
    (table,) = fold(results)
    (row,) = table.rows
    return row, table.columns


@pytest.mark.parametrize(
    ("seeds", "told"),
    [
        ([(0, 0)], "none varies (student 0; distillation 0)"),
        ([(0, 0), (1, 0)], "student varies (student 0, 1; distillation 0)"),
        ([(0, 0), (0, 2)], "distillation varies (student 0; distillation 0, 2)"),
        ([(0, 0), (1, 1)], "distillation and student vary (student 0, 1; distillation 0, 1)"),
    ],
)
def test_it_is_said_which_seeds_vary(result_of, seeds, told):
    row, _ = only_row([result_of(seed=s, distill_seed=d) for s, d in seeds])
    assert seeds_that_vary(row) == told


def test_seeds_of_imported_sets_are_unknown(result_of):
    row, _ = only_row([result_of(imported="aa")])
    assert seeds_that_vary(row) == "none varies (student 0; distillation unknown)"


def test_further_numbers_count_a_distilled_set_once(result_of):
    # Set 0 has W2 1.5 and three students, set 1 has W2 2.5 and one: the mean over sets is 2.
    seeds = [(0, 0), (1, 0), (2, 0), (0, 1)]
    row, columns = only_row([result_of(seed=s, distill_seed=d) for s, d in seeds])
    told = {column.heading: column.text(row, columns) for column in FURTHER}
    assert told["W2, cell masses"] == "2"
    assert told["best top-1 (chosen on the test set)"] == "51.0"
    assert told["teacher on distilled images"] == "90.0"
    assert told["s to train"] == "2.0"


def test_bytes_of_images_and_labels_stand_side_by_side(result_of):
    row, columns = only_row([result_of(label_bytes=2_500_000, seed=seed) for seed in (0, 1)])
    told = {column.heading: column.text(row, columns) for column in FURTHER}
    assert (told["image MB"], told["label MB"]) == ("0.01", "2.50")
    assert flat(row.results[0])["label_bytes"] == 2_500_000
    assert flat(row.results[0])["teacher_bytes"] == 5_000_000


def test_what_students_see_is_shown_where_it_differs_from_what_is_stored(result_of):
    def shown(**numbers):
        result = result_of()
        (table,) = fold([replace(result, distilled={**result.distilled, **numbers})])
        (row,) = table.rows
        return {c.heading: c.text(row, table.columns) for c in known_further(table)}

    alike = shown(decoded_images=30, stored_bytes=5760)
    assert alike == shown() == shown(decoded_images=None, stored_bytes=None)
    assert not {"images seen", "set MB"} & alike.keys()
    grid = shown(decoded_images=120, stored_bytes=5760)
    assert grid == {**alike, "images seen": "120"}
    assert list(grid).index("images seen") == list(grid).index("images") + 1
    assert shown(decoded_images=30, stored_bytes=2_005_760) == {**alike, "set MB": "2.01"}
    result = replace(result_of(), distilled={"decoded_images": 120, "stored_bytes": 9})
    line = flat(result)
    assert (line["distilled_decoded_images"], line["distilled_stored_bytes"]) == (120, 9)


def test_bytes_that_an_old_result_does_not_know_are_left_out(result_of):
    result = result_of()
    cost = {k: v for k, v in result.cost.items() if k not in ("label_bytes", "teacher_bytes")}
    row, columns = only_row([replace(result, cost=cost)])
    told = {column.heading: column.text(row, columns) for column in FURTHER}
    assert told["label MB"] == ""
    columns_of_old = flat(row.results[0])
    assert columns_of_old["label_bytes"] is columns_of_old["teacher_bytes"] is None
    row, columns = only_row([result])
    assert {c.heading: c.text(row, columns) for c in FURTHER}["label MB"] == "0.00"


def test_columns_that_no_row_knows_are_not_shown(result_of):
    result = result_of()
    without = {k: v for k, v in result.cost.items() if k != "label_bytes"}
    old = replace(result, cost=without, distilled={**result.distilled, "statistics": {}})
    (table,) = fold([old])
    shown = [column.heading for column in known_further(table)]
    assert "label MB" not in shown
    assert "W2, cell masses" not in shown
    assert "s to train" in shown
    (table,) = fold([old, result_of(method="d4m")])
    assert "label MB" in [column.heading for column in known_further(table)]
