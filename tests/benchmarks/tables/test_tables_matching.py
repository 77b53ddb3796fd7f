import pytest

from benchmarks.tables.folding import fold
from benchmarks.tables.matching import ceilings, circumstances, identity, name_recipes, same_recipe

FULL = {"method": "full", "ipc": 20, "top1": 0.9}


def test_the_ceiling_of_a_table(result_of):
    students = ("resnet18", "vit")
    rows = [result_of(student=s) for s in students]
    full = [result_of(student=s, **FULL) for s in (*students, "swin")]
    few, whole = fold([*rows, *full])
    (row,) = ceilings(few, [few, whole])
    assert {column: row.score(column).mean for column in row.cells} == {"resnet18": 0.9, "vit": 0.9}
    assert ceilings(whole, [few, whole]) == []


@pytest.mark.parametrize(
    "change",
    [
        {"data": {"limit_per_class": 20}},
        {"recipe": {"epochs": 6}},
        {"recipe_label": "unified[x]"},
        {"kwargs": {"width": 2}},
        {"config": {"teacher": "other"}},
        {"config": {"precision": "16-mixed"}},
        {"world_size": 2},
    ],
    ids=str,
)
def test_other_conditions_are_no_ceiling(result_of, change):
    tables = fold([result_of(), result_of(**{**FULL, **change})])
    few = next(table for table in tables if not table.is_full)
    assert ceilings(few, tables) == []


def test_a_row_that_the_table_holds_is_no_ceiling_besides(result_of):
    (table,) = fold([result_of(), result_of(method="full")])
    assert ceilings(table, [table]) == []


def test_identity_leaves_out_recipe_student_and_seeds_alone(result_of):
    base = result_of()
    same = result_of(
        seed=3, distill_seed=2, student="vit", recipe={"labels": "hard"}, recipe_label="hard"
    )
    assert identity(same) == identity(base)
    assert circumstances(same) == circumstances(base)
    for change in (
        {"method": "d4m"},
        {"ipc": 1},
        {"settings": {"power": 1}},
        {"world_size": 2},
        {"config": {"teacher": None}},
    ):
        assert identity(result_of(**change)) != identity(base)


def test_recipes_of_one_label_are_told_apart(result_of):
    tables = fold(
        [
            result_of(),
            result_of(ipc=1),
            result_of(recipe={"epochs": 6}),
            result_of(recipe_label="hard", recipe={"labels": "hard"}),
        ]
    )
    names = {same_recipe(t): n for t, n in zip(tables, name_recipes(tables), strict=True)}
    assert sorted(names.values()) == ["hard", "unified (epochs=5)", "unified (epochs=6)"]
