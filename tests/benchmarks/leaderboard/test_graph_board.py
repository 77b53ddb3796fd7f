"""Results of graphs on the leaderboard: tables of their own, and none among those of images."""

import csv
import io
import json

import pytest
from sealed_records import graph_record, transfer_record, write_records

from benchmarks.leaderboard.board import leaderboard
from benchmarks.results.files import write_result
from benchmarks.results.graphs import GRAPHS
from benchmarks.suites.board import read_cells, read_cells_of
from ddoq.errors import UserError
from ddoq.storage.files import write_json
from ddoq.storage.run_folder import RunFolder


@pytest.fixture
def output(tmp_path):
    for method, test in (("doscond", 0.5), ("graph-random", 0.3)):
        write_records(
            tmp_path, *(graph_record(method, seed, test + 0.02 * seed) for seed in (0, 1))
        )
    return tmp_path


def cells(text: str) -> list[list[str]]:
    lines = [line.split("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line[1:-1]] for line in lines]


def test_alone_they_are_a_page_of_markdown_and_of_html(output):
    text = leaderboard(output)
    assert "## Graphs" in text
    assert "### toy, 10 graphs per class" in text
    assert cells(text)[2:] == [
        ["doscond", "51.0 ± 1.4 (n=2)", "61.0 ± 1.4 (n=2)", "51.0", "2,048"],
        ["graph-random", "31.0 ± 1.4 (n=2)", "41.0 ± 1.4 (n=2)", "31.0", "2,048"],
    ]
    html = leaderboard(output, "html")
    assert '<section id="graphs"' in html
    assert "51.0 ± 1.4 (n=2)" in html
    assert "4 results." in html


def test_they_change_no_table_of_images(output, tmp_path_factory, result_of):
    alone = tmp_path_factory.mktemp("alone")
    result = result_of(method="random")
    for root in (alone, output):
        write_result(RunFolder(root).results, result)
    plain, both = leaderboard(alone), leaderboard(output)
    assert both.startswith(plain.rstrip("\n"))
    assert both.count("## Graphs") == 1
    assert leaderboard(output, "csv") == leaderboard(alone, "csv")
    plain, both = leaderboard(alone, "latex"), leaderboard(output, "latex")
    assert both.startswith(plain.rstrip("\n"))
    assert both.count(r"\begin{table}") == plain.count(r"\begin{table}") + 1
    assert 'id="graphs"' not in leaderboard(alone, "html")


def test_csv_has_a_line_for_each_unrounded(output):
    text = leaderboard(output, "graphs-csv")
    assert text == leaderboard(output, "csv")  # there is nothing else
    lines = list(csv.DictReader(io.StringIO(text)))
    assert [(line["method"], line["seed"]) for line in lines] == [
        *(("doscond", "0"), ("doscond", "1"), ("graph-random", "0"), ("graph-random", "1"))
    ]
    first = lines[1]
    assert float(first["test_last"]) == 0.52
    assert float(first["cell_test_last_mean"]) == pytest.approx(0.51)
    assert float(first["cell_test_best_mean"]) == pytest.approx(0.61)
    assert (first["cell_n"], first["row"], first["distilled_stored_bytes"]) == (
        *("2", "doscond", "2048"),
    )
    assert json.loads(first["settings"]) == {"ipc": 10, "seed": 0}
    assert json.loads(first["config_protocol"])["epochs"] == 500
    assert RunFolder.is_graph_result(output / f"graphs/graphs-{first['config_hash']}.json")


def test_latex_has_a_table_for_each(output):
    text = leaderboard(output, "latex")
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 1
    assert r"doscond & 51.0 $\pm$ 1.4 (n=2) & 61.0 $\pm$ 1.4 (n=2) & 51.0 & 2,048 \\" in text
    assert r"\caption{toy, 10 graphs per class. Accuracy on 1,000 real test graphs" in text
    assert "{*}" not in text


def test_what_has_no_table_says_so(output, result_of):
    with pytest.raises(UserError, match="no usable result of transfer"):
        leaderboard(output, "transfer-csv")
    with pytest.raises(UserError, match="no usable result of classification of images"):
        leaderboard(output, "robust-csv")
    write_records(output, transfer_record())
    with pytest.raises(
        UserError, match="transfer and of graphs, whose columns differ: give --format"
    ):
        leaderboard(output, "csv")
    assert leaderboard(output, "transfer-csv").count("krr_st") == 2  # start and row
    write_result(RunFolder(output).results, result_of(method="random"))
    assert "doscond" not in leaderboard(output, "csv")
    assert "doscond" in leaderboard(output, "graphs-csv")


def test_budgets_protocols_and_data_are_tables_of_their_own(output):
    other = graph_record(ipc=1)
    write_records(output, other, graph_record(seed=5, notes=["Changed."]))
    titles = [line for line in leaderboard(output).splitlines() if line.startswith("###")]
    assert len(titles) == 3
    assert titles[0] == "### toy, 1 graphs per class"
    assert "Random graphs are missing from this table" in leaderboard(output)


def test_sets_of_other_settings_are_rows_of_their_own(output):
    record = graph_record(seed=9)
    record.config["set"]["settings"] = {"ipc": 10, "seed": 0, "iterations": 7}
    write_records(output, record)
    names = [row[0] for row in cells(leaderboard(output))[2:]]
    assert len(names) == 3
    assert sum(name.startswith("doscond [") for name in names) >= 1


def test_a_file_that_was_edited_is_left_out_and_named(output):
    path = min((output / "graphs").iterdir())
    path.write_text(path.read_text().replace('"seconds": 1.0', '"seconds": 2.0'))
    text = leaderboard(output)
    assert "## Left out" in text
    assert path.name in text


def test_those_of_smoke_runs_are_no_results(output):
    write_records(RunFolder(output).smoke, graph_record(seed=7))
    assert "(n=3)" not in leaderboard(output)


def test_suites_read_them_beside_other_results(output, result_of):
    result = result_of(method="random")
    ordinary = write_result(RunFolder(output).results, result)
    paths = [ordinary, *(output / "graphs").iterdir()]
    write_json(output / "report.json", [str(path) for path in paths])
    results, problems = read_cells([output / "report.json"])
    assert ([r.config_hash for r in results], problems) == ([result.config_hash], [])
    graphs, damaged = read_cells_of(GRAPHS, [output / "report.json"])
    assert (len(graphs), damaged) == (4, [])


def test_a_renamed_file_is_none(output):
    path = min((output / "graphs").iterdir())
    path.rename(path.with_name("graphs-0123456789abcdef.json"))
    _, problems = GRAPHS.read_all(output)
    assert len(problems) == 1
    assert "does not hash to its own name" in problems[0]
