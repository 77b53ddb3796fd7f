"""The README's commands and numbers: commands are what CI runs, numbers are what result files say."""

import functools
import re
from pathlib import Path

import pytest
import yaml
from jsonargparse import ArgumentParser

from benchmarks.cli import main
from benchmarks.commands.names import COMMANDS
from benchmarks.configuration.layers import layers
from benchmarks.decoding.record import read_record as read_decoding
from benchmarks.decoding.text import decoding_text
from benchmarks.leaderboard.board import Board, render
from benchmarks.leaderboard.report import write_report
from benchmarks.theory.record import read_record
from benchmarks.theory.report import figure_paths, report_text
from ddoq.distillation.distiller import Distiller

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
# The folders behind reports in docs, with what rows are compared with and the heading of each.
REPORTS = {
    "budgets": (["d4m", "random"], "Where does optimal quantisation win?"),
    "budgets_features": (["d4m", "random"], "What does a better autoencoder bring?"),
    "weights": (["d4m", "random"], "Do DDOQ's weights help?"),
    "weights_causes": (["kmeans-selection", "ddoq"], "When do weights help? All numbers"),
    "matching": (["random", "grid-selection", "dm"], "Methods that optimise images: all numbers"),
    "matching_nonorm": (["random"], "FRePo under the student that it learns with"),
    "patches_tiny": (["random"], "Crops of real images on 50 classes of Tiny-ImageNet"),
    "graphs": (["graph-random", "node-random"], "Distilled graphs and nodes beside real ones"),
    "transfer": (["not pre-trained", "real images"], "What is KRR-ST's set worth as pre-training?"),
}
PAGES = {
    "budgets": "budgets.md",
    "budgets_features": "budgets_features.md",
    "weights": "weights.md",
    "weights_causes": "weights_causes_numbers.md",
    "matching": "matching_numbers.md",
    "matching_nonorm": "matching_nonorm.md",
    "patches_tiny": "patches_tiny.md",
    "graphs": "graphs_numbers.md",
    "transfer": "transfer_numbers.md",
}
# Pages written by hand, and the reports that their findings stand in; in those of ARGUING every other number does, too.
QUOTING = {
    "weights_causes.md": ["weights_causes"],
    "matching.md": ["matching", "matching_nonorm", "patches_tiny"],
    "graphs.md": ["graphs"],
    "transfer.md": ["transfer"],
}
ARGUING = ("weights_causes.md", "matching.md")
FOLDERS = sorted(path.name for path in (ROOT / "results").iterdir() if path.is_dir())
RESULTS = [name for name in FOLDERS if name not in REPORTS]


@functools.cache
def board_of(name: str) -> Board:
    """Read the result files of a folder, hundreds of them, once."""
    return Board.read(ROOT / "results" / name)


@functools.cache
def folded_of(name: str) -> str:
    """Fold them into tables, as ``ddoq-bench leaderboard`` does."""
    return render(board_of(name), ROOT / "results" / name, "markdown")


def block(name: str) -> str:
    """Return what stands between two marks of the README."""
    found = re.search(rf"<!-- {name} -->\n(.*?)\n<!-- /{name} -->", README, re.DOTALL)
    assert found, f"README.md has no block {name}"
    return found.group(1).strip()


def first_table(markdown: str) -> str:
    """Return the first table of a text: the headline."""
    lines = markdown.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("|"))
    end = next(i for i, line in enumerate(lines[start:], start) if not line.startswith("|"))
    return "\n".join(lines[start:end])


@pytest.mark.parametrize("name", RESULTS)
def test_tables_are_folded_from_result_files(name):
    folded = folded_of(name)
    assert block(name) == first_table(folded)
    written = (ROOT / "results" / f"{name}.md").read_text(encoding="utf-8")
    assert written.strip() == folded.strip(), (
        f"run: ddoq-bench leaderboard results/{name} --output results/{name}.md"
    )


@pytest.mark.parametrize("name", REPORTS)
def test_reports_are_made_from_result_files(name, tmp_path):
    folder, (against, title) = ROOT / "results" / name, REPORTS[name]
    board = board_of(name)
    assert board.complaints() == []
    write_report(board, folder, against, tmp_path / PAGES[name], title)
    written = (ROOT / "docs" / PAGES[name]).read_text(encoding="utf-8")
    assert written == (tmp_path / PAGES[name]).read_text(encoding="utf-8"), (
        f"run: ddoq-bench report results/{name} --against {' '.join(against)} --output docs/{PAGES[name]} "
        f'--title "{title}"'
    )
    for figure in tmp_path.glob("*.png"):
        assert (ROOT / "docs" / figure.name).is_file()


@pytest.mark.parametrize(
    "record", sorted((ROOT / "docs").glob("theory*.json")), ids=lambda path: path.stem
)
def test_reports_of_the_theory_are_made_from_their_records(record):
    document = record.with_suffix(".md")
    assert document.read_text(encoding="utf-8") == report_text(read_record(record), document)
    for figure in figure_paths(document).values():
        assert figure.is_file()


@pytest.mark.parametrize(
    "record", sorted((ROOT / "docs" / "decoding").glob("*.json")), ids=lambda path: path.stem
)
def test_pages_on_decoding_are_made_from_their_records(record):
    page = record.with_suffix(".md").read_text(encoding="utf-8")
    assert page == decoding_text(read_decoding(record)) + "\n"
    assert {path.name for path in record.parent.glob(f"{record.stem}_*.png")} == {
        f"{record.stem}_{kind}.png" for kind in ("curve", "images")
    }


def findings(page: str) -> list[str]:
    """Return the sentences of a report on what was found."""
    written = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return [line for line in written.splitlines() if line.startswith("- ")]


def test_what_weights_add_to_d4m_is_what_the_report_says():
    told = [line for line in findings("weights.md") if "**ddoq" in line]
    told = [line for line in told if "minus **d4m**" in line]
    assert told
    assert block("weights") == "\n".join(told)


@pytest.mark.parametrize("name", QUOTING)
def test_pages_say_what_their_reports_say(name):
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    reports = [(ROOT / "docs" / PAGES[each]).read_text(encoding="utf-8") for each in QUOTING[name]]
    numbers = "\n".join(reports)
    quoted = [line for line in page.splitlines() if line.startswith("- ") and " minus " in line]
    assert len(quoted) >= (10 if name in ARGUING else 4)
    assert [line for line in quoted if line not in numbers.splitlines()] == []
    if name not in ARGUING:
        return
    prose = "\n".join(line for line in page.splitlines() if line not in quoted)
    decimals = re.findall(r"[+-]?\d+\.\d+", prose)
    assert decimals
    known = set(re.findall(r"[+-]?\d+\.\d+", numbers))
    assert [number for number in decimals if number not in known] == []


def test_results_tell_commits_and_left_nothing_out():
    for name in FOLDERS:
        folded = folded_of(name)
        assert "Code: commit" in folded
        assert "random" in folded


def test_every_command_is_documented():
    assert [name for name in COMMANDS if f"ddoq-bench {name}" not in README] == []


def test_every_file_and_folder_that_it_names_exists():
    named = re.findall(r"\]\(([^)#]+?)\)", README)
    local = [name for name in named if "://" not in name]
    assert local
    assert [name for name in local if not (ROOT / name).exists()] == []


def test_there_are_exactly_two_commands_for_a_fresh_machine():
    assert README.count("python3 -m venv .venv && .venv/bin/pip install") == 2


@pytest.mark.parametrize(
    "path", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=str
)
def test_every_configuration_that_is_named_exists(path):
    text = path.read_text(encoding="utf-8")
    named = re.findall(r"configs/[\w/]+\.yaml", text)
    assert [name for name in named if not (ROOT / name).exists()] == []


def methods_table() -> dict[str, dict[str, str]]:
    """Return the row of the README's table for each file of configs/methods, by the heads of its columns."""
    section = README.partition("## Methods")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    head, _, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    named = [dict(zip(head, row, strict=True)) for row in rows]
    return {
        name: row
        for row in named
        for name in re.findall(r"\]\(configs/methods/(\w+)\.yaml\)", row["configuration"])
    }


def test_the_table_of_methods_says_what_the_configurations_say():
    import baselines  # noqa: F401
    import ddoq.ddoq  # noqa: F401

    table = methods_table()
    assert set(table) == {path.stem for path in (ROOT / "configs" / "methods").glob("*.yaml")}
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Distiller, "model")
    for name, row in table.items():
        files = layers([ROOT / "configs" / "methods" / f"{name}.yaml"])
        parts = [yaml.safe_load(file.read_text(encoding="utf-8")).get("model") for file in files]
        given = [f"--model={yaml.safe_dump(part)}" for part in parts if part]
        method = parser.instantiate(parser.parse_args(given)).model
        assert f"`{type(method).__name__}`" == row["class"], name
        assert f"`{method.method}`" == row["in results"], name
        assert ("prior" in row["needs"]) == method.needs_prior, name
        assert ("teacher" in row["needs"]) == method.needs_teacher, name
        page = re.search(r"\]\(([\w/.]+)\)", row["method"])
        assert page, name
        assert (ROOT / page.group(1)).exists(), name


def test_the_example_of_own_data_is_a_dataset(tmp_path, monkeypatch, capsys):
    (example,) = re.findall(r"```yaml\n(# mine\.yaml.*?)```", README, re.DOTALL)
    path = tmp_path / "mine.yaml"
    path.write_text(example)
    monkeypatch.chdir(tmp_path)  # no checkout
    for scale in ([], ["configs/scales/cpu.yaml"]):
        files = ["mine.yaml", "configs/methods/ddoq.yaml", *scale]
        with pytest.raises(SystemExit):
            main(["fit", *(f"--config={file}" for file in files), "--print_config"])
        shown = yaml.safe_load(capsys.readouterr().out)
        assert shown["data"]["init_args"]["path"] == "user/dataset"
        assert shown["model"]["class_path"].endswith("DDOQ")
        assert shown["recipe"]["overrides"] == ({"epochs": 150} if scale else {})
        assert shown["teacher"]["init_args"]["hflip"] is True
