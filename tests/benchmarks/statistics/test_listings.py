import csv
import io

import pytest

from benchmarks.statistics.listings import (
    intervals,
    robustness_csv,
    robustness_listings,
    stability_listings,
)
from benchmarks.tables.folding import fold
from ddoq.errors import UserError

HARD = {"recipe_label": "hard", "recipe": {"labels": "hard"}}


@pytest.fixture
def tables(result_of):
    """Two methods, random selection and the ceiling, under a soft and a hard recipe."""
    accuracies = {
        "ddoq": (0.5, 0.3),
        "d4m": (0.45, 0.32),
        "random": (0.4, 0.2),
        "full": (0.95, 0.9),
    }
    return fold(
        result_of(method=method, top1=top1, ipc=20 if method == "full" else 10, **recipe)
        for method, pair in accuracies.items()
        for top1, recipe in zip(pair, ({}, HARD), strict=True)
    )


def test_intervals_stand_only_where_a_cell_has_two_results(result_of):
    (single,) = fold([result_of(), result_of(method="random")])
    assert intervals(single) is None
    results = [result_of(seed=s, top1=0.4 + s / 10) for s in range(3)]
    (table,) = fold([*results, result_of(method="random"), result_of(student="vit")])
    listing = intervals(table)
    assert listing.headers == ["method", "resnet18", "vit", "seeds"]
    ddoq, random = listing.rows
    assert ddoq[1:3] == ["25.2 to 74.8", ""]
    assert "student varies" in ddoq[3]
    assert random[1:3] == ["", ""]
    assert "n - 1 degrees of freedom" in listing.text


def test_scores_are_listed_with_the_hard_recipe_beside_them(tables):
    (listing,) = robustness_listings(tables)
    assert listing.title == "Robust scores: toy, 10 images per class"
    rows = {(row[0], row[2]): row for row in listing.rows}
    ddoq = dict(zip(listing.headers, rows["ddoq", "unified"], strict=True))
    assert ddoq["hard labels"] == "hard"
    assert (ddoq["HLR"], ddoq["IOR"], ddoq["LRS"], ddoq["ARS"]) == ("+60.0", "+10.0", "0.175", "")
    assert all(len(row) == len(listing.headers) for row in listing.rows)
    assert "w = 0.5" in listing.text
    assert "means over seeds" in listing.text


def test_scores_as_csv_are_unrounded(tables):
    lines = list(csv.DictReader(io.StringIO(robustness_csv(tables))))
    line = next(e for e in lines if (e["row"], e["recipe"]) == ("ddoq", "unified"))
    assert float(line["lrs"]) == pytest.approx(0.17483, abs=1e-5)
    assert float(line["full_hard"]) == 0.9
    assert line["ars"] == ""
    assert (line["hard"], line["student"]) == ("hard", "resnet18")
    assert list(line)[:5] == ["dataset", "ipc", "recipe", "apart", "row"]


def test_without_a_score_the_csv_says_what_to_run(result_of):
    with pytest.raises(UserError, match=r"--recipe\.name hard"):
        robustness_csv(fold([result_of()]))


def test_ranks_and_agreement_are_listed(tables):
    ranks, agreement = stability_listings(tables)
    assert ranks.headers == ["method", "hard", "unified", "best rank", "worst rank"]
    # hard: d4m 0.32, ddoq 0.30, random 0.20; unified: ddoq 0.50, d4m 0.45, random 0.40
    assert ranks.rows == [
        ["d4m", "1", "2", "1", "2"],
        ["ddoq", "2", "1", "1", "2"],
        ["random", "3", "3", "3", "3"],
    ]
    assert agreement.rows == [["hard", "unified", "d4m, ddoq, random", "resnet18", "0.33"]]


def test_nothing_is_listed_where_nothing_applies(result_of):
    single = fold([result_of(), result_of(method="random")])
    assert robustness_listings(single) == []
    assert stability_listings(single) == []
