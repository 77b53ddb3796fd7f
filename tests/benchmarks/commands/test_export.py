import pytest

from benchmarks.cli import main
from benchmarks.commands import export
from benchmarks.commands.export import score_rows
from benchmarks.results.files import write_result
from ddoq.distillation.distilled_set import DistilledSet
from ddoq.exchange import LAYOUTS


@pytest.mark.parametrize("layout", LAYOUTS)
def test_export_and_import_give_the_set_again(tmp_path, stored, layout, capsys):
    out, back = tmp_path / "out", tmp_path / "back"
    assert main(["export", str(tmp_path / "set"), "--format", layout, "--output", str(out)]) == 0
    assert main(["import", str(out), "--output", str(back)]) == 0
    loaded = DistilledSet.load(back)
    assert loaded.fingerprint == stored.fingerprint
    assert loaded.metadata == stored.metadata
    assert (back / "images.png").is_file()
    assert capsys.readouterr().out.count(stored.fingerprint) == 2
    assert DistilledSet.load(back).metadata == stored.metadata


def test_scores_of_this_set_alone_go_into_the_card(tmp_path, stored, result_of, capsys):
    results = tmp_path / "results"
    own = [result_of(seed=seed, top1=0.5 + seed / 10) for seed in (0, 1)]
    for result in own:
        result.distilled["fingerprint"] = stored.fingerprint
    for result in [*own, result_of(method="other", top1=0.99)]:
        write_result(results, result)
    rows, problems = score_rows(results, stored.fingerprint)
    assert [(row.student, row.top1) for row in rows] == [("resnet18", "55.0 ± 7.1 (n=2)")]
    assert problems == []
    args = [str(tmp_path / "set"), "--format", "parquet", "--output", str(tmp_path / "out")]
    assert main(["export", *args, "--results", str(results)]) == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert "55.0 ± 7.1 (n=2)" in card
    assert "99.0" not in card
    assert "1 scores" in capsys.readouterr().out


def test_scores_under_other_conditions_are_not_averaged(tmp_path, result_of):
    for teacher in ("teacher0", "teacher1"):
        write_result(tmp_path, result_of(config={"teacher": teacher}))
    rows, _ = score_rows(tmp_path, "ddoq-0")
    assert len(rows) == 2
    assert len({row.student for row in rows}) == 2


def test_unreadable_results_are_told(tmp_path, stored, capsys):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "0123456789abcdef.json").write_text("{")
    args = [str(tmp_path / "set"), "--format", "imagefolder", "--output", str(tmp_path / "out")]
    assert main(["export", *args, "--results", str(tmp_path / "results")]) == 1
    assert (tmp_path / "out" / "labels.csv").is_file()
    errors = capsys.readouterr().err
    assert "0123456789abcdef.json" in errors
    assert "is of this set" in errors


def test_nothing_is_pushed_unless_asked(tmp_path, stored, monkeypatch, capsys):
    pushed = []

    def push(folder, repo, *, public=False):
        pushed.append((folder, repo, public))
        return "https://hub/me/set"

    monkeypatch.setattr("ddoq.exchange.push", push)
    args = [str(tmp_path / "set"), "--format", "parquet", "--output"]
    assert main(["export", *args, str(tmp_path / "a")]) == 0
    assert pushed == []
    assert main(["export", *args, str(tmp_path / "b"), "--push", "me/set", "--public"]) == 0
    assert pushed == [(tmp_path / "b", "me/set", True)]
    assert "https://hub/me/set" in capsys.readouterr().out
    assert main(["export", *args, str(tmp_path / "c"), "--push", "me"]) == 2
    assert not (tmp_path / "c").exists()
    assert main(["export", *args, str(tmp_path / "c"), "--public"]) == 2


def test_mistakes_of_the_user(tmp_path, stored, foreign, capsys):
    out = ["--output", str(tmp_path / "out")]
    for args, message in [
        (["export", str(tmp_path / "set"), "--format", "tar", *out], "invalid choice"),
        (["export", str(foreign), "--format", "parquet", *out], "metadata.json does not exist"),
        (["import", str(foreign), *out], "--classes"),
        (["import", str(foreign), "--classes", str(tmp_path / "set"), *out], "--method"),
        (["import", str(foreign), "--bogus", *out], "unrecognized arguments"),
        (["import", str(tmp_path / "missing"), *out], "does not exist"),
        (
            ["export", str(tmp_path / "set"), "--format", "parquet", "--output", str(foreign)],
            "exists already",
        ),
    ]:
        assert main(args) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"set", "rded"}  # no remains


def test_its_layouts_are_those_of_the_library():
    assert export.LAYOUTS == LAYOUTS
