import re

import pytest

from benchmarks.cli import main


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--quantizers", "[loyd]"], "Unknown --quantizers 'loyd'"),
        (["--ipc", "ten"], "ipc"),
        (["--seeds", "[0, 0]"], "the seed 0 is listed twice"),
        (["--config", "configs/methods/random.yaml"], "but the configuration names 'random'"),
    ],
)
def test_mistakes_are_explained(capsys, tmp_path, arguments, told):
    base = ["theory", "--config", "configs/quickstart.yaml", "--output", str(tmp_path / "runs")]
    assert main([*base, *arguments]) == 2
    assert re.search(told, capsys.readouterr().err)


@pytest.mark.slow
def test_a_smoke_run_writes_a_report(capsys, tmp_path):
    assert (
        main(
            [
                *("theory", "--config", "configs/quickstart.yaml", "--smoke", "synthetic"),
                *("--output", str(tmp_path / "runs"), "--markdown", str(tmp_path / "theory.md")),
                *("--checkpoints", "[0, 2]"),
            ]
        )
        == 0
    )
    text = (tmp_path / "theory.md").read_text()
    assert "Classes have too few points for an estimate" in text
    assert len(list(tmp_path.glob("theory-*.png"))) == 3
