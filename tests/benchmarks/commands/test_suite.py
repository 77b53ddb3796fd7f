import pytest

from benchmarks.cli import main
from benchmarks.commands.suite import split
from ddoq.errors import UserError


def test_options_of_the_processes_may_stand_anywhere():
    given = ["--recipe.name", "hard", "s.yaml", "--output=o", "-c", "x.yaml", "--force=true"]
    own, others = split([*given, "--jobs", "2"])
    assert own == ["s.yaml", "--output=o", "--jobs", "2"]
    assert others == ["--recipe.name=hard", "-c=x.yaml", "--force=true"]


@pytest.mark.parametrize("arguments", [["s.yaml", "--force"], ["s.yaml", "--force", "--jobs", "2"]])
def test_an_option_without_a_value_is_refused(arguments):
    with pytest.raises(UserError, match="--force needs a value"):
        split(arguments)


def test_no_workers_are_refused(tmp_path, capsys):
    assert main(["suite", "x.yaml", "--jobs", "0"]) == 2
    assert "--jobs must be at least 1" in capsys.readouterr().err
