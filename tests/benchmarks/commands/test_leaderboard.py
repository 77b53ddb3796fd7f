import subprocess
import sys

import pytest

from benchmarks.cli import main
from benchmarks.leaderboard.board import leaderboard
from benchmarks.results.files import write_failure, write_result

RANDOM = {"method": "random", "top1": 0.3}


def test_statuses_and_messages_of_the_command(board, tmp_path, capsys, result_of):
    assert main(["leaderboard", str(tmp_path)]) == 2
    assert "no usable result" in capsys.readouterr().err
    folder = board({}, RANDOM)
    assert main(["leaderboard", str(folder)]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert shown.out == leaderboard(folder)
    write_failure(folder / "failures", result_of(seed=9).cell, "Traceback\nValueError: boom")
    assert main(["leaderboard", str(folder)]) == 1
    shown = capsys.readouterr()
    assert "seed 9" in shown.err
    assert "ValueError: boom" in shown.err
    assert "## Left out" in shown.out


def test_what_counts_once_is_a_note_and_no_failure(board, capsys, result_of):
    folder = board({}, RANDOM)
    copy = write_result(folder / "z" / "copy", result_of(config={"precision": "32"}))
    assert main(["leaderboard", str(folder)]) == 0
    shown = capsys.readouterr()
    assert shown.err.startswith("note: ")
    assert str(copy) in shown.err
    assert "50.0 (n=1)" in shown.out
    assert "Left out" not in shown.out


def test_a_damaged_file_is_reported_and_the_rest_is_shown(board, capsys, result_of):
    folder = board({}, RANDOM)
    bad = write_result(folder / "results", result_of(seed=5))
    bad.write_text(bad.read_text().replace("0.5", "0.9"))
    assert main(["leaderboard", str(folder)]) == 1
    shown = capsys.readouterr()
    assert bad.name in shown.err
    assert "50.0 (n=1)" in shown.out


@pytest.mark.parametrize("arguments", [["nowhere"], [], ["--format", "html", "."], ["--x", "."]])
def test_mistakes_end_with_status_2_and_one_line(arguments, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["leaderboard", *arguments]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_output_file_decides_the_format(board, tmp_path, capsys):
    folder = board({}, RANDOM)
    target = tmp_path / "new" / "board.csv"
    assert main(["leaderboard", str(folder), "--output", str(target)]) == 0
    assert capsys.readouterr().out == ""
    assert target.read_text() == leaderboard(folder, "csv")
    assert main(["leaderboard", str(folder), "--output", str(folder)]) == 2


@pytest.mark.parametrize(
    ("name", "format", "starts"),
    [
        ("board.tex", "latex", "% Tables of ddoq-bench leaderboard."),
        ("board.html", "html", "<!doctype html>"),
        ("BOARD.HTM", "html", "<!doctype html>"),
        ("board.md", "markdown", "# Leaderboard"),
    ],
)
def test_endings_stand_for_formats(board, tmp_path, capsys, name, format, starts):
    folder = board({}, RANDOM)
    assert main(["leaderboard", str(folder), "--output", str(tmp_path / name)]) == 0
    text = (tmp_path / name).read_text(encoding="utf-8")
    assert text == leaderboard(folder, format)
    assert text.startswith(starts)
    assert main(["leaderboard", str(folder), "--format", format]) == 0
    assert capsys.readouterr().out == text


@pytest.mark.parametrize("format", ["latex", "html"])
def test_every_format_names_what_was_left_out(board, capsys, result_of, format):
    folder = board({}, RANDOM)
    write_failure(folder / "failures", result_of(seed=9).cell, "ValueError: boom")
    assert main(["leaderboard", str(folder), "--format", format]) == 1
    shown = capsys.readouterr()
    assert "ValueError: boom" in shown.out
    assert "ValueError: boom" in shown.err


def test_a_page_is_written_without_torch(board, tmp_path):
    folder = board({}, RANDOM)
    script = (
        "import sys; from benchmarks.cli import main; "
        f"assert not {{'torch', 'jinja2', 'PIL'}} & set(sys.modules); assert main(['leaderboard', {str(folder)!r}, '--output', "
        f"{str(tmp_path / 'page.html')!r}]) == 0; assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
