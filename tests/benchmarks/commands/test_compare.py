from benchmarks.cli import main
from benchmarks.statistics.comparison import comparison


def test_it_prints_the_comparison(board, capsys):
    folder = board(*({"method": m, "seed": s} for m in ("ddoq", "d4m") for s in (0, 1)))
    assert main(["compare", str(folder), "ddoq", "d4m"]) == 0
    assert capsys.readouterr().out == comparison(folder, "ddoq", "d4m") + "\n"


def test_an_unknown_method_is_a_mistake(board, capsys):
    assert main(["compare", str(board({})), "ddok", "d4m"]) == 2
    assert "Did you mean 'ddoq'" in capsys.readouterr().err
