import subprocess
import sys

import pytest

from benchmarks.cli import main
from benchmarks.commands.names import COMMANDS
from benchmarks.commands.options import CommandParser
from ddoq.errors import UserError

HEAVY = ("configured", "decoding", "plan", "theory")  # they read a configuration
LIGHT = [name for name, command in COMMANDS.items() if command.module not in HEAVY]


@pytest.fixture
def parser():
    parser = CommandParser("fit")
    parser.add_argument("--some-number", type=int)
    parser.add_argument("--kind", choices=("a", "b"), default="a")
    return parser


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--some-number", "x"], r"argument --some-number: invalid int value: 'x'\. See"),
        (["--kind", "c"], "argument --kind: invalid choice: 'c'.* See"),
        (["--some-numbr", "1"], r"unrecognized arguments: --some-numbr.*mean '--some-number'\?"),
        (["--some", "1"], "unrecognized arguments: --some"),  # no abbreviations
    ],
)
def test_a_mistake_is_an_error_of_the_user(parser, arguments, message):
    with pytest.raises(UserError, match=message) as error:
        parser.parse_args(arguments)
    assert str(error.value).endswith("See `ddoq-bench fit --help`.")


def test_the_table_describes_a_command_that_says_no_more(parser):
    assert parser.description == COMMANDS["fit"].help


@pytest.mark.parametrize("command", LIGHT)
def test_every_command_says_what_is_missing_in_one_line(command, capsys):
    assert main([command]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: the following arguments are required")
    assert told.count("\n") == 1
    assert f"ddoq-bench {command} --help" in told


def test_light_commands_show_their_help_without_torch():
    assert len(LIGHT) == 8
    code = (
        "import sys\n"
        "from benchmarks.cli import main\n"
        f"for command in {LIGHT}:\n"
        "    try: main([command, '--help'])\n"
        "    except SystemExit as end: assert end.code == 0\n"
        "    else: raise AssertionError(command)\n"
        "heavy = {'torch', 'lightning', 'datasets', 'pyarrow', 'huggingface_hub', 'jinja2', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(f"usage: ddoq-bench {command}" in done.stdout for command in LIGHT)
