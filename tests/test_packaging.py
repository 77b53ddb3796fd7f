"""The wheel: it carries every file that commands read, and runs in an empty folder."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("ddoq", "baselines", "benchmarks")
BUILD = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Build the wheel from a copy: building leaves files in the tree."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in (*PACKAGES, "configs"):
        shutil.copytree(
            ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", ".*")
        )
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    subprocess.run(
        [sys.executable, "-c", BUILD, str(folder)], cwd=source, check=True, capture_output=True
    )
    (path,) = folder.glob("*.whl")
    return path


def test_every_file_of_the_packages_and_all_configurations_are_in_the_wheel(wheel):
    held = set(zipfile.ZipFile(wheel).namelist())
    needed = {
        file.relative_to(ROOT).as_posix()
        for name in PACKAGES
        for file in (ROOT / name).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    configs = {
        f"benchmarks/{file.relative_to(ROOT).as_posix()}"
        for file in (ROOT / "configs").rglob("*.*")
    }
    assert "benchmarks/students/recipe_files/unified.yaml" in needed
    assert "benchmarks/configs/quickstart.yaml" in configs
    assert sorted((needed | configs) - held) == []
    strange = {name.split("/")[0] for name in held} - {*PACKAGES}
    assert all(name.endswith(".dist-info") for name in strange), "nothing else is installed"


@pytest.mark.slow
def test_the_command_of_the_readme_runs_from_the_wheel_in_an_empty_folder(wheel, tmp_path):
    installed, empty = tmp_path / "installed", tmp_path / "empty"
    empty.mkdir()
    zipfile.ZipFile(wheel).extractall(installed)
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    for arguments in (
        ["fit", "--config", "configs/quickstart.yaml", "--smoke", "true"],
        ["leaderboard", "runs/smoke", "--output", "page.html"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks", *arguments],
            cwd=empty,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        if arguments[0] == "fit":
            assert f"from the installation ({installed / 'benchmarks' / 'configs'})" in done.stdout
    assert "<html" in (empty / "page.html").read_text(encoding="utf-8")
