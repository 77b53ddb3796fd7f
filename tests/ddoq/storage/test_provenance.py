import getpass
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from ddoq.storage.provenance import (
    Stopwatch,
    forget_peak_memory,
    git_state,
    peak_memory,
    provenance,
)


def git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path):
    """A repository with the package in it."""
    root = tmp_path / "checkout"
    (root / "ddoq").mkdir(parents=True)
    (root / "ddoq" / "code.py").write_text("1")
    (root / "notes.txt").write_text("1")
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "first")
    return root


def test_versions_are_those_installed():
    versions = provenance()["versions"]
    assert versions["python"] == platform.python_version()
    assert versions["torch"] == importlib.metadata.version("torch")
    assert all(
        versions[key] == importlib.metadata.version(key) for key in versions if key != "python"
    )


def test_json_without_names_or_paths():
    text = json.dumps(provenance())
    assert json.loads(text) == provenance()
    private = {platform.node(), str(Path.home()), os.getcwd(), f'"{getpass.getuser()}"'}
    assert [name for name in private if len(name) > 3 and name in text] == []
    assert not [value for value in text.split('"') if value.startswith("/")]


def test_what_torch_knows_is_told():
    found = provenance()
    assert found["threads"] == torch.get_num_threads()
    assert found["cuda"] == torch.version.cuda
    assert found["cores"] >= 1
    assert found["cpu"]


def test_callers_cannot_spoil_the_next_record():
    provenance()["versions"]["torch"] = "0"
    assert provenance()["versions"]["torch"] != "0"


def test_nothing_heavy_is_imported():
    code = (
        "import sys; from ddoq.storage.provenance import provenance, peak_memory; provenance(); peak_memory();"
        "assert not {'torch', 'numpy', 'faiss'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_commit_and_changes_of_the_code(checkout):
    commit = git(checkout, "rev-parse", "HEAD")
    assert git_state(checkout) == {"commit": commit, "modified": False}
    (checkout / "notes.txt").write_text("2")  # makes no result
    (checkout / "my.yaml").write_text("2")
    assert git_state(checkout) == {"commit": commit, "modified": False}
    (checkout / "ddoq" / "new.py").write_text("2")
    assert git_state(checkout) == {"commit": commit, "modified": True}


def test_a_repository_around_the_package_is_not_its_own(checkout):
    installed = checkout / "venv" / "site-packages"
    installed.mkdir(parents=True)
    assert git_state(installed) is None


def test_neither_the_working_directory_nor_a_hook_misleads(checkout, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(checkout)
    assert git_state(elsewhere) is None
    monkeypatch.setenv("GIT_DIR", str(checkout / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(elsewhere))
    assert git_state(elsewhere) is None


def test_without_commits_or_git_nothing_is_claimed(tmp_path, checkout, monkeypatch):
    git(tmp_path, "init", "-q")
    assert git_state(tmp_path) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state(checkout) is None


def test_peak_memory_grows_with_what_is_held_and_stays():
    code = (
        "from ddoq.storage.provenance import peak_memory as peak;"
        "before = peak()['resident_bytes']; held = bytearray(b'1') * 2**26;"
        "after = peak()['resident_bytes']; del held;"
        "assert 2**26 <= after - before < 2**27, (before, after);"
        "assert abs(peak()['resident_bytes'] - after) < 2**20;"  # the kernel counts in batches of pages
        "assert peak()['cuda_bytes'] is None"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems cannot forget a peak")
def test_a_peak_can_be_forgotten():
    code = (
        "from ddoq.storage.provenance import forget_peak_memory, peak_memory as peak;"
        "held = bytearray(b'1') * 2**26; high = peak()['resident_bytes']; del held;"
        "forget_peak_memory(); low = peak()['resident_bytes'];"
        "assert high - low >= 2**25, (high, low);"
        "held = bytearray(b'1') * 2**26; assert peak()['resident_bytes'] - low >= 2**25"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_where_no_peak_can_be_forgotten_the_whole_process_counts(monkeypatch):
    def refuse(*_, **__):
        raise PermissionError

    before = peak_memory()["resident_bytes"]
    monkeypatch.setattr(Path, "write_text", refuse)
    forget_peak_memory()
    assert peak_memory()["resident_bytes"] >= before


def test_peak_memory_is_not_that_of_the_parent():
    held = bytearray(b"1") * 2**28
    code = (
        "from ddoq.storage.provenance import peak_memory as peak; print(peak()['resident_bytes'])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert int(done.stdout) < len(held) <= peak_memory()["resident_bytes"]


def test_stopwatch_measures_the_block_alone():
    watch, started = Stopwatch(), time.perf_counter()
    with watch:
        time.sleep(0.05)
    whole = time.perf_counter() - started
    time.sleep(0.05)
    assert 0.05 <= watch.seconds <= whole


def fail_slowly():
    time.sleep(0.02)
    raise KeyError


def test_stopwatch_stops_where_the_block_fails():
    watch = Stopwatch()
    with pytest.raises(KeyError), watch:
        fail_slowly()
    assert watch.seconds >= 0.02


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpus_are_named_and_measured():
    held = torch.ones(2**20, device="cuda")
    assert peak_memory()["cuda_bytes"] >= held.numel() * 4
    del held
    forget_peak_memory()
    assert peak_memory()["cuda_bytes"] < 2**22
    found = provenance()
    assert found["gpus"][0] == torch.cuda.get_device_name(0)
    with Stopwatch() as watch:
        torch.cuda._sleep(50_000_000)
    assert watch.seconds > 0.01
