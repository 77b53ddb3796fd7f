import csv
import io
import random
import re
import statistics
from dataclasses import replace

import pytest

from benchmarks.leaderboard.board import leaderboard
from benchmarks.results.files import write_result
from benchmarks.tables.cell_table import cell_table
from benchmarks.tables.folding import distinguish, fold
from ddoq.errors import UserError

RANDOM = {"method": "random", "top1": 0.3}


def rows_of(text):
    """Parse all tables of a Markdown text: cells by first cell."""
    lines = [line for line in text.splitlines() if line.startswith("|") and ":--" not in line]
    return [[cell.strip() for cell in line.strip("|").split(" |")] for line in lines]


def test_mean_and_sample_standard_deviation_over_seeds(board):
    accuracies = [0.51, 0.55, 0.62]
    folder = board(*({"seed": s, "top1": a} for s, a in enumerate(accuracies)), RANDOM)
    text = leaderboard(folder)
    mean, std = 100 * statistics.fmean(accuracies), 100 * statistics.stdev(accuracies)
    assert f"{mean:.1f} ± {std:.1f} (n=3)" in text
    assert "30.0 (n=1)" in text
    assert "student varies (student 0, 1, 2; distillation 0)" in text
    assert "none varies (student 0; distillation 0)" in text


HARD = {"recipe_label": "hard", "recipe": {"labels": "hard"}}


def test_intervals_stand_in_a_table_of_their_own(board):
    folder = board(*({"seed": s, "top1": 0.5 + s / 50} for s in (0, 1)), RANDOM)
    rows = rows_of(leaderboard(folder))
    assert rows[-3][:2] == ["method", "resnet18"]
    assert rows[-2][1] == "38.3 to 63.7"
    assert rows[-1][1] == ""
    lines = list(csv.DictReader(io.StringIO(leaderboard(folder, "csv"))))
    assert float(lines[0]["cell_top1_low95"]) == pytest.approx(0.51 - 12.7062 * 0.01, abs=1e-6)
    assert float(lines[0]["cell_top1_high95"]) == pytest.approx(0.51 + 12.7062 * 0.01, abs=1e-6)
    assert lines[0]["cell_n"] == "2"
    assert lines[0]["row_seeds"].startswith("student varies")
    assert lines[2]["cell_top1_low95"] == ""


def test_the_ceiling_is_the_last_row(board):
    text = leaderboard(board({"top1": 0.5}, RANDOM, {"method": "full", "ipc": 20, "top1": 0.9}))
    assert [row[0] for row in rows_of(text)[:4]] == ["method", "ddoq", "random", "full (ceiling)"]
    assert rows_of(text)[3][1:3] == ["90.0 (n=1)", "90.0"]
    assert "## toy, all training images (up to 20 per class), recipe unified" in text
    assert "Random selection is missing" not in text


def test_without_several_seeds_or_recipes_nothing_is_derived(board):
    folder = board({}, RANDOM)
    text = leaderboard(folder)
    assert not [word for word in ("95 %", "Robust", "Rank stability") if word in text]
    with pytest.raises(UserError, match=r"--recipe\.name hard"):
        leaderboard(folder, "robust-csv")


def test_scores_and_ranks_follow_the_tables(board):
    folder = board(
        {}, RANDOM, HARD, {**RANDOM, **HARD}, {"method": "full", "ipc": 20, "top1": 0.9, **HARD}
    )
    text = leaderboard(folder)
    assert "## Robust scores: toy, 10 images per class" in text
    assert "## Rank stability: toy, 10 images per class" in text
    lines = list(csv.DictReader(io.StringIO(leaderboard(folder, "robust-csv"))))
    assert {line["row"] for line in lines} == {"ddoq", "random"}


def test_headline_is_last_and_best_stands_apart(board):
    rows = rows_of(leaderboard(board({"top1": 0.5}, RANDOM)))
    assert rows[0] == ["method", "resnet18", "mean", "seeds"]
    assert rows[1][:3] == ["ddoq", "50.0 (n=1)", "50.0"]
    assert rows[3][1] == "best top-1 (chosen on the test set)"
    assert rows[4][:2] == ["ddoq", "51.0"]


def test_order_by_mean_then_name_with_incomplete_rows_last(board):
    text = leaderboard(
        board(
            {"method": "b", "top1": 0.5},
            {"method": "b", "student": "vit", "top1": 0.3},
            {"method": "a", "top1": 0.3},
            {"method": "a", "student": "vit", "top1": 0.5},
            {"method": "c", "top1": 0.6},
            {"method": "c", "student": "vit", "top1": 0.5},
            {"method": "easy", "top1": 0.9},
        )
    )
    assert [row[0] for row in rows_of(text)[:5]] == ["method", "c", "a", "b", "easy"]
    assert rows_of(text)[4][1:4] == ["90.0 (n=1)", "", ""]
    assert "Rows that lack a student" in text


def test_text_does_not_depend_on_the_order_of_files(tmp_path, result_of):
    generator = random.Random(0)
    results = [
        result_of(method=m, student=s, seed=i, distill_seed=d, top1=generator.random())
        for m in ("ddoq", "random", "d4m")
        for s in ("vit", "resnet18")
        for i in range(3)
        for d in range(2)
    ]
    results += [
        result_of(method=m, student="vit", seed=i, top1=generator.random(), ipc=n, **HARD)
        for m, n in (("ddoq", 10), ("random", 10), ("d4m", 10), ("full", 20))
        for i in range(2)
    ]
    texts = set()
    for turn in range(4):
        generator.shuffle(results)
        folder = tmp_path / str(turn)
        for index, result in enumerate(results):
            write_result(folder / f"part-{index % (turn + 2)}", result)
        formats = ("markdown", "csv", "robust-csv", "html")
        texts.add(tuple(leaderboard(folder, format) for format in formats))
    assert len(texts) == 1


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"data": {"name": "other"}}, "## other, 10 images"),
        ({"data": {"limit_per_class": 5}}, "(limit_per_class=5)"),
        ({"data": {"source": "edited"}}, "(source=edited)"),
        ({"ipc": 1}, "## toy, 1 images"),
        ({"recipe_label": "hard", "recipe": {"labels": "hard"}}, "recipe hard, hard labels"),
        ({"recipe": {"labels": "stored"}}, "recipe unified, stored labels"),
        ({"recipe": {"epochs": 6}}, "(epochs=6)"),
    ],
)
def test_unequal_conditions_never_share_a_table(board, change, told):
    folder = board(RANDOM, {}, {"method": "d4m", **change})
    text = leaderboard(folder)
    assert text.count("\n## toy") + text.count("\n## other") == 2
    assert told in text
    assert text.count("Random selection is missing") == 1


LEARNED = {"recipe_label": "frepo", "recipe": {"labels": "set"}}


@pytest.mark.parametrize(("given", "under_hard"), [(LEARNED, True), ({}, False)])
def test_random_images_have_no_targets_to_learn(board, given, under_hard):
    """They cannot be run under the recipe of a set that brings targets: the page says under which they can."""
    text = leaderboard(board(given))
    assert ("recipe with `labels: hard` and `loss: ce`" in text) is under_hard
    assert ("images per class and recipe." in text) is not under_hard


@pytest.mark.parametrize(
    ("change", "labels"),
    [
        ({"settings": {"power": 0.5}}, ["ddoq [power=0.5]", "ddoq [power=absent]"]),
        ({"config": {"teacher": "t1"}}, ["ddoq [teacher=t1]", "ddoq [teacher=teacher0]"]),
        (
            {"config": {"precision": "16"}},
            ["ddoq [precision=16-mixed]", "ddoq [precision=32-true]"],
        ),
        ({"world_size": 2, "seed": 1}, ["ddoq [world_size=2]", "ddoq [world_size=1]"]),
    ],
)
def test_settings_are_never_averaged(board, change, labels):
    text = leaderboard(board({"top1": 0.4}, {"top1": 0.6, **change}))
    assert [row[0] for row in rows_of(text)[1:3]] == labels
    assert "(n=2)" not in text


def test_seeds_of_both_kinds_are_averaged_and_said(board):
    text = leaderboard(board(*({"seed": s, "distill_seed": d} for s in (0, 1) for d in (0, 1))))
    assert "50.0 ± 0.0 (n=4)" in text
    assert "distillation and student vary (student 0, 1; distillation 0, 1)" in text
    assert [row[3] for row in rows_of(text)[3:4]] == ["2"]  # W2: the mean of 1.5 and 2.5


def test_imported_sets_are_told_apart_by_their_contents(board):
    text = leaderboard(
        board(
            {"method": "imported", "imported": "aa", "top1": 0.2},
            {"method": "imported", "imported": "bb", "top1": 0.4},
        )
    )
    assert [row[0] for row in rows_of(text)[1:3]] == [
        "imported [fingerprint=bb]",
        "imported [fingerprint=aa]",
    ]


def test_students_of_equal_names_but_other_networks_are_two_columns(board):
    text = leaderboard(board({}, {"kwargs": {"width": 2}}))
    assert rows_of(text)[0][1:3] == ["resnet18 [width=2]", "resnet18 [width=absent]"]


def test_every_table_says_how_it_was_made(board):
    git = {"commit": "b" * 40, "modified": True}
    text = leaderboard(board({"git": git, "data": {"limit_per_class": 20}}))
    for told in (
        "8 x 8 pixels; 60 training images (at most 20 a class), 30 test images (all)",
        "Recipe: unified: epochs=5, labels=online",
        "convnet3 (97.22 % top-1 on the real test set, fingerprint teacher0)",
        "a CPU (32-true, world size 1)",
        "python 3.11.0, torch 2.14.1",
        "commit aaaaaaaaaaaa, commit bbbbbbbbbbbb (modified)",
        "Date: 20",
    ):
        assert told in text


def test_pipes_in_names_do_not_break_tables(board):
    rows = rows_of(leaderboard(board({"student": "a|b"})))
    assert rows[0][1] == "a\\|b"


def test_csv_has_a_line_per_result_unrounded(board):
    folder = board({"top1": 0.123456789}, {"seed": 1}, RANDOM)
    lines = list(csv.DictReader(io.StringIO(leaderboard(folder, "csv"))))
    assert [(line["method"], line["seed"]) for line in lines] == [
        ("ddoq", "0"),
        ("ddoq", "1"),
        ("random", "0"),
    ]
    first = lines[0]
    assert float(first["top1_last"]) == 0.123456789
    assert first["commit"] == "a" * 40
    assert {"params", "steps", "w2_masses", "world_size", "config_hash"} <= set(first)


def test_unknown_formats_are_mistakes(board):
    with pytest.raises(UserError, match="Did you mean 'markdown'"):
        leaderboard(board({}), "markdwn")


def test_cell_table_keeps_the_order_of_students(result_of):
    many = {"num_classes": 10}
    results = [result_of(student="vit", seed=s, top1=0.4 + 0.2 * s, data=many) for s in (0, 1)]
    text = cell_table([*results, result_of(student="convnet3", top1=0.25, data=many)])
    lines = text.splitlines()
    assert lines[0].startswith("ddoq on toy, 10 images per class, recipe unified")
    cells = ["vit", "1,234,567", "50", "50.0 ± 14.1 (n=2)", "51.0 ± 14.1 (n=2)"]
    assert re.split(r"\s{2,}", lines[3].strip()) == [*cells, "100.0 ± 0.0 (n=2)", "2.0"]
    assert lines[4].split()[0] == "convnet3"


def test_distinguish_names_nested_keys_in_full_where_needed():
    items = [{"a": {"k": 1}, "b": {"k": 2}}, {"a": {"k": 3}, "b": {"k": 4}}]
    assert distinguish(items) == ["a.k=1, b.k=2", "a.k=3, b.k=4"]
    assert distinguish([{"a": 1}]) == [""]


def test_fold_of_nothing_is_nothing():
    assert fold([]) == []


EVIL = "=1+1<script>alert(1)</script>|[x](http://x)"


def test_names_of_users_stay_text_in_markdown(board):
    folder = board(
        {"method": EVIL, "student": EVIL, "data": {"name": EVIL}, "settings": {"a": EVIL}}
    )
    text = leaderboard(folder)
    assert "alert(1)" in text
    assert "<script" not in text
    assert "](http" not in text


def test_no_cell_of_csv_is_a_formula(board):
    folder = board({"method": EVIL, "student": EVIL, "data": {"name": "@SUM(A1)"}})
    (row,) = csv.DictReader(io.StringIO(leaderboard(folder, "csv")))
    assert (row["method"], row["student"], row["dataset"]) == (f"'{EVIL}", f"'{EVIL}", "'@SUM(A1)")
    assert [v for v in row.values() if v[:1] in "=+@" and v[:1]] == []


def test_warnings_are_notes_of_their_rows_and_old_tables_have_none(tmp_path, result_of):
    warned = [replace(result_of(seed=s), warnings=["the set <b> is odd"]) for s in (0, 1)]
    for result in [*warned, result_of(method="random")]:
        write_result(tmp_path, result)
    noted = leaderboard(tmp_path)
    assert noted.count("Warning: ") == 1
    assert "- Warning: ddoq, resnet18 (seed 0, 1): the set &lt;b> is odd" in noted
    assert "Warning: ddoq, resnet18" in leaderboard(tmp_path, "latex")
    page = leaderboard(tmp_path, "html")
    assert "Warning: ddoq, resnet18 (seed 0, 1): the set &lt;b&gt; is odd" in page
    assert "warnings" in leaderboard(tmp_path, "csv").splitlines()[0]
    for path in tmp_path.iterdir():
        path.unlink()
    write_result(tmp_path, result_of())
    assert "Warning" not in leaderboard(tmp_path)
    assert "warnings" not in leaderboard(tmp_path, "csv")
