import pytest

from benchmarks.cli import main
from benchmarks.configuration.arguments import CommandParser
from ddoq.errors import UserError


def test_a_mistake_is_an_error_of_the_user():
    parser = CommandParser(prog="ddoq-bench try")
    parser.add_argument("--number", type=int)
    with pytest.raises(UserError, match=r"invalid int value: 'x'. See `ddoq-bench try --help`"):
        parser.parse_args(["--number", "x"])


@pytest.mark.parametrize(
    "command", ["compare", "export", "import", "leaderboard", "report", "suite"]
)
def test_every_command_says_what_is_missing_in_one_line(command, capsys):
    assert main([command]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: the following arguments are required")
    assert told.count("\n") == 1
    assert f"ddoq-bench {command} --help" in told
