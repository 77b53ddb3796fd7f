import re
from pathlib import Path

import pytest

from benchmarks.cli import main

ROOT = Path(__file__).parents[3]
FILES = (ROOT / "configs" / "quickstart.yaml", ROOT / "tests" / "configs" / "tiny.yaml")
CONFIG = [part for file in FILES for part in ("--config", str(file))]
FEW = ["--data.init_args.limit_per_class", "12", "--data.init_args.test_limit_per_class", "5"]
STEPS = ["--model.init_args.sampling.num_inference_steps", "4"]


def test_a_configuration_is_measured_from_nothing(tmp_path, capsys):
    output = ["--output", str(tmp_path / "runs")]
    options = ["--strengths", "[0.5]", "--guidances", "[1, 2]", "--ipc", "1", "--per-class", "2"]
    assert main(["decoding", *CONFIG, *FEW, *STEPS, *output, *options]) == 0
    printed = capsys.readouterr().out
    assert "Decoding with the prior of digits" in printed
    assert re.search(r"\| real training images +\| +10 \|", printed)
    assert re.search(r"\| samples from noise, guidance 2 +\| +20 \|", printed)
    assert "decoding: 2 of 2: strength 0.5, guidance 2: " in printed
    assert "Picked: strength 0.5" in printed
    (folder,) = (tmp_path / "runs" / "decoding").glob("ddoq-ipc1-*")
    assert len(list(folder.iterdir())) == 4


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--strengths", "[]"], "--strengths is empty"),
        (["--strengths", "[0]"], "--strengths must be in (0, 1], not 0"),
        (["--guidances", "[0.5]"], "--guidances must be in [1, 1000], not 0.5"),
        (["--guidances", "many"], "guidances"),
        (["--strength", "[0.5]"], "Did you mean 'strengths'"),
        (["--ipc", "13"], "ipc is 13, "),
        (["--prior", "null"], "No prior is configured: give the key `prior`"),
        (["--trainer.devices", "2", "--trainer.strategy", "ddp"], "works on one device"),
    ],
)
def test_mistakes_are_explained_before_anything_is_trained(options, told, tmp_path, capsys):
    output = ["--output", str(tmp_path / "runs")]
    assert main(["decoding", *CONFIG, *FEW, *output, *options]) == 2
    error = capsys.readouterr().err
    assert error.count("error:") == 1
    assert told in error
    assert not (tmp_path / "runs" / "priors").exists()
