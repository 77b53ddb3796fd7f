"""Results of transfer on the leaderboard: tables of their own, and none among accuracies of classification."""

import csv
import io

import pytest
from sealed_records import transfer_record, write_records

from benchmarks.leaderboard.board import leaderboard
from benchmarks.results.files import read_results, write_result
from benchmarks.results.transfers import TRANSFERS, UNTRAINED
from benchmarks.suites.board import read_cells, read_cells_of
from ddoq.storage.files import write_json
from ddoq.storage.run_folder import RunFolder


@pytest.fixture
def output(tmp_path):
    for start, top1 in (("krr_st", 0.5), (UNTRAINED, 0.3)):
        for seed in (0, 1):
            write_records(tmp_path, transfer_record(start, seed, top1 + 0.02 * seed))
    return tmp_path


def test_alone_they_are_a_page_of_markdown_and_of_html(output):
    text = leaderboard(output)
    assert "## Transfer" in text
    assert "### From toy to other" in text
    lines = [line.split("|") for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line[1:-1]] for line in lines]
    assert cells[2:] == [
        ["krr_st", "20", "41.0 ± 1.4 (n=2)", "51.0 ± 1.4 (n=2)"],
        [UNTRAINED, "", "21.0 ± 1.4 (n=2)", "31.0 ± 1.4 (n=2)"],
    ]
    lines = list(csv.DictReader(io.StringIO(leaderboard(output, "csv"))))
    assert [line["start"] for line in lines] == ["krr_st"] * 2 + [UNTRAINED] * 2
    assert float(lines[0]["cell_tuned_top1_mean"]) == pytest.approx(0.51)
    assert lines[2]["settings"] == lines[2]["pretrain_loss"] == ""
    assert r"krr\_st & 20 & 41.0 $\pm$ 1.4 (n=2)" in leaderboard(output, "latex")
    html = leaderboard(output, "html")
    assert '<section id="transfer"' in html
    assert "51.0 ± 1.4 (n=2)" in html
    assert "4 results." in html


def test_they_change_no_table_of_classification(output, tmp_path_factory, result_of):
    alone = tmp_path_factory.mktemp("alone")
    result = result_of(method="random")
    for root in (alone, output):
        write_result(RunFolder(root).results, result)
    plain, both = leaderboard(alone), leaderboard(output)
    assert both.startswith(plain.rstrip("\n"))
    assert both.count("## Transfer") == 1
    assert leaderboard(output, "csv") == leaderboard(alone, "csv")
    plain, both = leaderboard(alone, "latex"), leaderboard(output, "latex")
    assert both.startswith(plain.rstrip("\n"))
    assert both.count(r"\begin{table}") == plain.count(r"\begin{table}") + 1
    assert read_results(output)[1] == []
    html = leaderboard(output, "html")
    assert '<section id="transfer"' in html
    assert "From toy to other" in html
    assert 'id="transfer"' not in leaderboard(alone, "html")


def test_a_file_that_was_edited_is_left_out_and_named(output):
    path = min((output / "transfer").iterdir())
    path.write_text(path.read_text().replace('"seconds": 1.0', '"seconds": 2.0'))
    text = leaderboard(output)
    assert "## Left out" in text
    assert path.name in text


def test_those_of_smoke_runs_are_no_results(output):
    write_records(RunFolder(output).smoke, transfer_record(seed=7))
    assert "(n=3)" not in leaderboard(output)


def test_suites_read_them_beside_other_results(output, result_of):
    result = result_of(method="random")
    ordinary = write_result(RunFolder(output).results, result)
    paths = [ordinary, *(output / "transfer").iterdir()]
    write_json(output / "report.json", [str(path) for path in paths])
    results, problems = read_cells([output / "report.json"])
    assert ([r.config_hash for r in results], problems) == ([result.config_hash], [])
    transfers, damaged = read_cells_of(TRANSFERS, [output / "report.json"])
    assert (len(transfers), damaged) == (4, [])
