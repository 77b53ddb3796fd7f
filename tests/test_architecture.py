"""The lines that the layout draws: imports go one way, and the command line starts light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FORBIDDEN = {"ddoq": {"baselines", "benchmarks"}, "baselines": {"benchmarks"}}


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("package", ["ddoq", "baselines"])
def test_imports_go_one_way(package):
    files = list((ROOT / package).rglob("*.py"))
    assert files
    wrong = [str(file) for file in files if imported(file) & FORBIDDEN[package]]
    assert wrong == []


def test_mathematics_knows_no_lightning():
    pure = [*(ROOT / "ddoq" / "quantization").glob("*.py"), ROOT / "ddoq" / "labels" / "losses.py"]
    pure += [
        ROOT / "ddoq" / "augmentation" / "epochs.py",
        ROOT / "baselines" / "sre2l" / "recover.py",
    ]
    assert [str(file) for file in pure if "lightning" in imported(file)] == []


def test_files_stay_short():
    files = [f for p in ("ddoq", "baselines", "benchmarks") for f in (ROOT / p).rglob("*.py")]
    long = {f.name: n for f in files if (n := len(f.read_text().splitlines())) > 400}
    assert long == {}


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from benchmarks.cli import main; main(['--help']);"
        "heavy = {'torch', 'lightning', 'diffusers', 'timm', 'wandb', 'datasets'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "ddoq-bench COMMAND" in done.stdout
