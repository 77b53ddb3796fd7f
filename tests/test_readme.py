"""The README's commands and numbers: commands are what CI runs, numbers are what result files say."""

import re
from pathlib import Path

import pytest

from benchmarks.commands.names import COMMANDS
from benchmarks.leaderboard.board import Board, leaderboard
from benchmarks.leaderboard.report import write_report

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
REPORT = "weights"  # the folder behind docs/weights.md
FOLDERS = sorted(path.name for path in (ROOT / "results").iterdir() if path.is_dir())
RESULTS = [name for name in FOLDERS if name != REPORT]


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
    folded = leaderboard(ROOT / "results" / name, "markdown")
    assert block(name) == first_table(folded)
    written = (ROOT / "results" / f"{name}.md").read_text(encoding="utf-8")
    assert written.strip() == folded.strip(), (
        f"run: ddoq-bench leaderboard results/{name} --output results/{name}.md"
    )


def test_the_report_is_made_from_result_files(tmp_path):
    folder = ROOT / "results" / REPORT
    board = Board.read(folder)
    assert board.complaints() == []
    title = "Do DDOQ's weights help?"
    write_report(board, folder, ["d4m", "random"], tmp_path / "weights.md", title)
    written = (ROOT / "docs" / "weights.md").read_text(encoding="utf-8")
    assert written == (tmp_path / "weights.md").read_text(encoding="utf-8"), (
        f"run: ddoq-bench report results/{REPORT} --against d4m random --output docs/weights.md "
        f'--title "{title}"'
    )
    lines = [line for line in written.splitlines() if line.startswith("- ")]
    told = [line for line in lines if "**ddoq" in line and "minus **d4m**" in line]
    assert told
    assert block(REPORT) == "\n".join(told)
    for figure in tmp_path.glob("*.png"):
        assert (ROOT / "docs" / figure.name).is_file()


def test_results_tell_commits_and_left_nothing_out():
    for name in FOLDERS:
        folded = leaderboard(ROOT / "results" / name, "markdown")
        assert "Code: commit" in folded
        assert "random" in folded


def test_every_command_is_documented():
    assert [name for name in COMMANDS if f"ddoq-bench {name}" not in README] == []


def test_every_file_and_folder_that_it_names_exists():
    named = re.findall(r"\]\(([^)#]+?)\)", README)
    local = [name for name in named if "://" not in name]
    assert local
    assert [name for name in local if not (ROOT / name).exists()] == []
    configs = re.findall(r"configs/[\w/]+\.yaml", README)
    assert [name for name in configs if not (ROOT / name).exists()] == []


def test_there_are_exactly_two_commands_for_a_fresh_machine():
    assert README.count("python3 -m venv .venv && .venv/bin/pip install") == 2
