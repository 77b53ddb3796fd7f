import pytest
from sealed_records import graph_record, write_records

from benchmarks.results.files import write_result
from benchmarks.suites.board import finish_suite, read_cells
from benchmarks.suites.jobs import Plan, plan_suite
from benchmarks.tracking.loggers import WandbOptions
from ddoq.errors import UserError
from ddoq.storage.files import write_json

DISABLED = [WandbOptions(mode="disabled")]


@pytest.fixture
def reports(tmp_path, result_of):
    made = []
    for method, top1 in (("random", 0.5), ("d4m", 0.55), ("ddoq", 0.6)):
        for seed in (0, 1):
            cell = result_of(method=method, seed=seed, top1=top1 + 0.01 * seed * (method == "ddoq"))
            path = write_result(tmp_path / "results", cell)
            made.append(tmp_path / "suite" / f"{method}-{seed}.json")
            write_json(made[-1], [str(path)])
    return made


def plan(tmp_path, **more):
    return Plan([], [], tmp_path, "a suite", DISABLED, **more)


def test_the_board_holds_what_was_reported_and_no_more(tmp_path, reports, result_of, capsys):
    write_result(tmp_path / "results", result_of(method="sre2l"))  # of another suite
    assert finish_suite(plan(tmp_path), reports, []) == []
    assert "sre2l" not in capsys.readouterr().out
    folder = tmp_path / "leaderboards" / "a_suite"
    assert sorted(path.suffix for path in folder.iterdir()) == [".csv", ".html", ".md"]
    assert "ddoq" in (folder / "leaderboard.md").read_text()


def test_a_report_is_written_where_the_suite_names_whom_to_compare_with(tmp_path, reports, capsys):
    assert finish_suite(plan(tmp_path, against=("random", "d4m")), reports, []) == []
    path = tmp_path / "leaderboards" / "a_suite" / "report.md"
    assert f"report written to {path}" in capsys.readouterr().out
    text = path.read_text()
    assert text.startswith("# a suite\n")
    assert "**ddoq** minus **random**" in text
    assert path.with_name("report-d4m.png").is_file()


def test_a_report_that_cannot_be_written_costs_the_status_and_not_the_tables(
    tmp_path, reports, capsys
):
    (problem,) = finish_suite(plan(tmp_path, against=("kmeans",)), reports, [])
    assert "'kmeans'" in problem
    assert "no report: No result is of the method 'kmeans'" in capsys.readouterr().err
    assert (tmp_path / "leaderboards" / "a_suite" / "leaderboard.md").is_file()


def test_results_of_other_kinds_have_tables_files_and_a_report_too(tmp_path, capsys):
    graphs = [
        graph_record(method, seed, test + 0.01 * seed * (method == "doscond"))
        for method, test in (("doscond", 0.6), ("graph-random", 0.4))
        for seed in (0, 1)
    ]
    write_records(tmp_path, *graphs)
    write_json(tmp_path / "report.json", [str(path) for path in (tmp_path / "graphs").iterdir()])
    reports = [tmp_path / "report.json"]
    assert finish_suite(plan(tmp_path, against=("graph-random",)), reports, []) == []
    assert "## Graphs" in capsys.readouterr().out
    folder = tmp_path / "leaderboards" / "a_suite"
    names = {path.name for path in folder.iterdir() if path.suffix != ".png"}
    assert names == {"leaderboard.md", "leaderboard.html", "graphs.csv", "report.md"}
    assert "**doscond** minus **graph-random**" in (folder / "report.md").read_text()


def test_a_result_that_was_edited_is_named(tmp_path, reports):
    broken = next((tmp_path / "results").iterdir())
    broken.write_text(broken.read_text().replace("1234567", "7654321"))
    results, problems = read_cells(reports)
    assert len(results) == 5
    assert len(problems) == 1
    assert broken.name in problems[0]


def test_the_suite_file_names_them(tmp_path):
    (tmp_path / "one.yaml").write_text("students: [{arch: convnet3}]\n")
    suite = tmp_path / "suite.yaml"
    suite.write_text("configs: [one.yaml]\nagainst: [random, d4m]\n")
    assert plan_suite(suite).against == ("random", "d4m")
    suite.write_text("configs: [one.yaml]\nagainst: random\n")
    with pytest.raises(UserError, match="`against` must be a list"):
        plan_suite(suite)
    suite.write_text("configs: [one.yaml]\nagainst: [1]\n")
    with pytest.raises(UserError, match="`against` must list methods"):
        plan_suite(suite)
