import re
import shlex
from pathlib import Path

import pytest

from benchmarks.cli import main
from benchmarks.commands.plan import PlanOptions

ROOT = Path(__file__).parents[3]
DOCUMENT = ROOT / "docs" / "plan_imagenet.md"
LAYERS = ("datasets/digits.yaml", "methods/random.yaml")
DIGITS = [part for name in LAYERS for part in ("--config", str(ROOT / "configs" / name))]
GIVEN = ["--classes", "5", "--images-per-class", "20", "--test-images", "50"]


def run(capsys, *arguments: str) -> str:
    assert main(["plan", *arguments]) == 0
    return capsys.readouterr().out


def cells(text: str, stage: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {stage} ")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_plan_without_the_dataset(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = run(capsys, *DIGITS, *GIVEN, "--ipc", "1,2", "--device", "nvidia-a100")
    assert "100 training images of 5 classes, 50 test images, 16 pixels" in text
    assert "#### 1 images per class" in text
    assert "#### 2 images per class" in text
    assert "#### All" in text
    # 19.5 TFLOP/s in fp32, of which the file says how much is sustained.
    assert "19.5 TFLOP/s peak in fp32 times a utilisation of 0.3, which is 5.85 TFLOP/s" in text
    train = cells(text.split("#### 2")[0], "train vit")
    assert train[2] == f"{400 * 5:,}"  # epochs of `unified` times images
    assert not any(tmp_path.iterdir())


def test_a_method_without_a_budget_is_planned_too(capsys):
    method = ROOT / "configs" / "methods" / "full.yaml"
    assert "full on a dataset" in run(capsys, *DIGITS[:2], f"--config={method}", *GIVEN)


def test_a_probe_measures(capsys):
    text = run(capsys, *DIGITS, *GIVEN, "--probe", "true")
    speed, hours = cells(text, "train resnet10t")[7:9]
    assert float(speed.replace(",", "")) > 0
    passes = 400 * 50
    assert float(hours) == pytest.approx(passes / float(speed.replace(",", "")) / 3600, rel=0.02)
    assert "measured on this machine (cpu)" in text


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--classes", "5"], "Give --classes and --images-per-class together"),
        (["--classes", "0", "--images-per-class", "1"], "must be at least 1"),
        (
            [*GIVEN, "--ipc", "ten"],
            "--ipc must be whole numbers from 1 on, such as 10,50, not 'ten'",
        ),
        ([*GIVEN, "--device", "nvidia-h20"], "Unknown device 'nvidia-h20'.*nvidia-h200"),
        (
            [*GIVEN, "--device", "nvidia-a100", "--precision", "fp8"],
            "No rate of nvidia-a100 in 'fp8'",
        ),
        ([*GIVEN, "--device", "nvidia-a100", "--utilisation", "2"], r"must be in \(0, 1\], not 2"),
    ],
)
def test_mistakes_are_explained(capsys, arguments, told):
    assert main(["plan", *DIGITS, *arguments]) == 2
    assert re.search(told, capsys.readouterr().err)


def test_its_options_belong_to_it_alone(capsys):
    assert main(["distill", *DIGITS, "--images-per-class", "5"]) == 2
    capsys.readouterr()


def test_a_rate_needs_a_device():
    assert PlanOptions(utilisation=0.5).rate("32-true") is None
    assert PlanOptions(device="nvidia-h100", precision="bf16").rate("32-true").precision == "bf16"


@pytest.mark.slow
def test_the_document_is_what_the_commands_print(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    text = DOCUMENT.read_text(encoding="utf-8")
    blocks = re.findall(r"```bash\nddoq-bench (plan.*?)\n```\n\n(.*?)(?=\n## |\Z)", text, re.DOTALL)
    assert len(blocks) == 3
    for command, printed in blocks:
        assert main(shlex.split(command.replace("\\\n", " "))) == 0
        assert capsys.readouterr().out.strip() == printed.strip()
