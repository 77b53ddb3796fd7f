from scipy import stats
from sealed_records import graph_record, write_records

from benchmarks.cli import main
from benchmarks.statistics.comparison import comparison


def test_it_prints_the_comparison(board, capsys):
    folder = board(*({"method": m, "seed": s} for m in ("ddoq", "d4m") for s in (0, 1)))
    assert main(["compare", str(folder), "ddoq", "d4m"]) == 0
    assert capsys.readouterr().out == comparison(folder, "ddoq", "d4m") + "\n"


def test_an_unknown_method_is_a_mistake(board, capsys):
    assert main(["compare", str(board({})), "ddok", "d4m"]) == 2
    assert "Did you mean 'ddoq'" in capsys.readouterr().err


def test_results_of_graphs_are_compared_too(tmp_path, capsys):
    for seed, (ours, theirs) in enumerate(((0.50, 0.40), (0.54, 0.41), (0.51, 0.42))):
        write_records(tmp_path, graph_record("doscond", seed, ours))
        write_records(tmp_path, graph_record("graph-random", seed, theirs))
    assert main(["compare", str(tmp_path), "doscond", "graph-random"]) == 0
    printed = capsys.readouterr().out
    assert "## doscond minus graph-random: toy, 10 graphs per class, 500 epochs" in printed
    assert (
        "Accuracy on real test graphs after the last epoch, in points; paired by seeds" in printed
    )
    expected = stats.ttest_rel([0.50, 0.54, 0.51], [0.40, 0.41, 0.42])
    low, high = (f"{100 * end:+.2f}" for end in expected.confidence_interval())
    row = printed.splitlines()[-1]
    assert [cell.strip() for cell in row.strip("|").split("|")] == [
        *("gcn", "+10.67", f"{low} to {high}", f"{expected.pvalue:.3f}", "3")
    ]
    assert main(["compare", str(tmp_path), "doscond", "graph-randon"]) == 2
    assert "Did you mean 'graph-random'" in capsys.readouterr().err
