import subprocess
import sys

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.commands import exchange
from benchmarks.commands.exchange import export_main, import_main, score_rows
from benchmarks.results.files import write_result
from ddoq.distillation.distilled_set import DistilledSet
from ddoq.exchange import LAYOUTS


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def stored(tmp_path):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (4, 3, 6, 6), generator=generator, dtype=torch.uint8)
    distilled = DistilledSet(
        images,
        torch.tensor([0, 0, 1, 1]),
        torch.tensor([0.5, 1.5, 0.7, 1.3]),
        ["cat", "dog"],
        {"method": "ddoq", "ipc": 2, "seed": 0, "class_keys": ["n1", "n2"]},
    )
    distilled.save(tmp_path / "set")
    return distilled


@pytest.fixture
def foreign(tmp_path):
    for label in range(2):
        folder = tmp_path / "rded" / f"{label:05d}"
        folder.mkdir(parents=True)
        Image.fromarray(np.full((8, 8, 3), 100 * label, np.uint8)).save(folder / "a.jpg")
    return tmp_path / "rded"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_export_and_import_give_the_set_again(tmp_path, stored, layout, capsys):
    out, back = tmp_path / "out", tmp_path / "back"
    assert export_main([str(tmp_path / "set"), "--format", layout, "--output", str(out)]) == 0
    assert import_main([str(out), "--output", str(back)]) == 0
    loaded = DistilledSet.load(back)
    assert loaded.fingerprint == stored.fingerprint
    assert loaded.metadata == stored.metadata
    assert (back / "images.png").is_file()
    assert capsys.readouterr().out.count(stored.fingerprint) == 2
    assert DistilledSet.load(back).metadata == stored.metadata


def test_import_of_a_foreign_folder(tmp_path, stored, foreign, capsys):
    args = [str(foreign), "--classes", str(tmp_path / "set"), "--method", "rded", "--collage", "2"]
    assert import_main([*args, "--image-size", "6", "--output", str(tmp_path / "out")]) == 0
    loaded = DistilledSet.load(tmp_path / "out")
    assert loaded.images.shape == (2, 3, 6, 6)
    assert loaded.class_names == ["cat", "dog"]
    assert loaded.metadata["class_keys"] == ["n1", "n2"]
    assert loaded.metadata["imported"]["codec"] == "jpeg"
    assert "codec jpeg" in capsys.readouterr().out


def test_import_with_the_classes_of_the_source(tmp_path, foreign):
    args = [str(foreign), "--classes", "source", "--method", "x", "--output", str(tmp_path / "out")]
    assert import_main(args) == 0
    assert DistilledSet.load(tmp_path / "out").class_names == ["00000", "00001"]


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
    assert export_main([*args, "--results", str(results)]) == 0
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
    assert export_main([*args, "--results", str(tmp_path / "results")]) == 1
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
    assert export_main([*args, str(tmp_path / "a")]) == 0
    assert pushed == []
    assert export_main([*args, str(tmp_path / "b"), "--push", "me/set", "--public"]) == 0
    assert pushed == [(tmp_path / "b", "me/set", True)]
    assert "https://hub/me/set" in capsys.readouterr().out
    assert export_main([*args, str(tmp_path / "c"), "--push", "me"]) == 2
    assert not (tmp_path / "c").exists()
    assert export_main([*args, str(tmp_path / "c"), "--public"]) == 2


def test_mistakes_of_the_user(tmp_path, stored, foreign, capsys):
    out = ["--output", str(tmp_path / "out")]
    for main, args, message in [
        (export_main, [str(tmp_path / "set"), "--format", "tar", *out], "invalid choice"),
        (export_main, [str(foreign), "--format", "parquet", *out], "metadata.json does not exist"),
        (import_main, [str(foreign), *out], "--classes"),
        (import_main, [str(foreign), "--classes", str(tmp_path / "set"), *out], "--method"),
        (import_main, [str(foreign), "--bogus", *out], "unrecognized arguments"),
        (import_main, [str(tmp_path / "missing"), *out], "does not exist"),
        (
            export_main,
            [str(tmp_path / "set"), "--format", "parquet", "--output", str(foreign)],
            "exists already",
        ),
    ]:
        assert main(args) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"set", "rded"}  # no remains


def test_help_is_light_and_lists_the_same_formats():
    assert exchange._LAYOUTS == LAYOUTS
    code = (
        "import sys, benchmarks.commands.exchange as e\n"
        "for main in (e.export_main, e.import_main):\n"
        "    try: main(['--help'])\n"
        "    except SystemExit as end: assert end.code == 0\n"
        "heavy = {'torch', 'datasets', 'pyarrow', 'huggingface_hub'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
