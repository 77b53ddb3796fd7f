import pytest

from benchmarks.folding import fold
from benchmarks.summaries import FURTHER, seeds_that_vary


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
