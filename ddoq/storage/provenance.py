"""Where numbers come from: versions, commit, hardware; and what they cost: seconds and peak memory."""

import contextlib
import functools
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_DISTRIBUTIONS = (
    "ddoq-bench",
    "torch",
    "torchvision",
    "lightning",
    "torchmetrics",
    "diffusers",
    "timm",
    "faiss-cpu",
    "faiss-gpu",
    "faiss-gpu-cuvs",
    "faiss-gpu-cu12",
    "POT",
    "scikit-learn",
    "numpy",
    "datasets",
    "safetensors",
    "wandb",
)
# Settings outside the configuration that can change the last bits of a result, or its cost.
_ENVIRONMENT = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "CUBLAS_WORKSPACE_CONFIG",
    "NVIDIA_TF32_OVERRIDE",
    "PYTORCH_CUDA_ALLOC_CONF",
)
# What makes results; notes and configurations beside it do not make a checkout "modified".
_CODE = ("ddoq", "baselines", "benchmarks", "pyproject.toml")


def provenance() -> dict[str, Any]:
    """Say what a number was made with, as JSON values.

    Nothing heavy is imported: what only torch knows is told once torch is in use, and GPUs are named once CUDA is.
    Names of hosts and users, and paths, are left out.

    Returns:
        ``versions`` (of Python and libraries), ``git`` (``commit`` and whether the code was ``modified``, or None
        where the package is no checkout), ``platform``, ``cpu``, ``cores``, ``gpus``, ``cuda``, ``driver``,
        ``threads``, ``matmul_precision``, ``environment``.

    Example:
        >>> sorted(provenance())  # doctest: +NORMALIZE_WHITESPACE
        ['cores', 'cpu', 'cuda', 'driver', 'environment', 'git', 'gpus', 'matmul_precision', 'platform', 'threads',
         'versions']
    """
    git = _git_state()
    return {
        "versions": dict(_versions()),
        "git": None if git is None else dict(git),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_model(),
        "cores": _cores(),
        "environment": {key: os.environ[key] for key in _ENVIRONMENT if key in os.environ},
        **_torch_state(),
    }


@functools.cache
def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in _DISTRIBUTIONS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


@functools.cache
def _git_state() -> dict[str, Any] | None:
    return git_state(Path(__file__).resolve().parents[2])


def git_state(root: Path) -> dict[str, Any] | None:
    """Read the commit of a checkout.

    Args:
        root: The top folder of the checkout.

    Returns:
        ``commit`` and whether the packages were ``modified`` since; None if ``root`` is not itself the top of a
        checkout (an installed package may lie inside a repository of somebody else's), has no commit yet, or
        git cannot read it.
    """
    # Inside a git hook these variables point to the repository that is being committed to.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}

    def git(*arguments: str) -> str | None:
        command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=10,
                check=False,
                env=environment,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    top = git("rev-parse", "--show-toplevel")
    if not top or Path(top).resolve() != root.resolve():
        return None
    commit = git("rev-parse", "--verify", "HEAD")
    changes = git(
        "status", "--porcelain", "--", *(name for name in _CODE if (root / name).exists())
    )
    if commit is None or changes is None:
        return None
    return {"commit": commit, "modified": bool(changes)}


@functools.cache
def _cpu_model() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    named = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return named.group(1).strip() if named else platform.processor() or platform.machine()


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))  # what this process may use, not what the machine has
    return os.cpu_count() or 1


def _torch_state() -> dict[str, Any]:
    torch = sys.modules.get("torch")
    if torch is None:
        return {
            "gpus": [],
            "cuda": None,
            "driver": None,
            "threads": None,
            "matmul_precision": None,
        }
    # Asking for names before CUDA is in use would start it: hundreds of megabytes for a run on the CPU.
    used = torch.cuda.is_initialized()
    count = torch.cuda.device_count() if used else 0
    return {
        "gpus": [torch.cuda.get_device_name(index) for index in range(count)],
        "cuda": torch.version.cuda,
        "driver": _driver() if used else None,
        "threads": torch.get_num_threads(),
        "matmul_precision": torch.get_float32_matmul_precision(),
    }


@functools.cache
def _driver() -> str | None:
    try:
        text = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8")
    except OSError:
        return None
    version = re.search(r"Kernel Module.*?\s(\d+\.[\d.]+)\s", text)
    return version.group(1) if version else None


def forget_peak_memory() -> None:
    """Let :func:`peak_memory` speak of what comes from now on, beside all that is held now.

    Where the system has no way to do so, it goes on speaking of the whole process.
    """
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # see `man 5 proc`
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        for index in range(torch.cuda.device_count()):
            torch.cuda.reset_peak_memory_stats(index)


def largest_memory(parts: Iterable[Mapping[str, int | None] | None]) -> dict[str, int | None]:
    """Return the most that any of several pieces of work has held, as :func:`peak_memory` tells it.

    Args:
        parts: What it returned for each; None where nothing was noted.

    Example:
        >>> largest_memory([{"resident_bytes": 5, "cuda_bytes": None}, {"resident_bytes": 7, "cuda_bytes": 1}, None])
        {'resident_bytes': 7, 'cuda_bytes': 1}
    """
    noted = [part for part in parts if part is not None]
    return {
        name: max(
            (bytes_ for part in noted if (bytes_ := part.get(name)) is not None), default=None
        )
        for name in ("resident_bytes", "cuda_bytes")
    }


def peak_memory() -> dict[str, int | None]:
    """Return the most memory that this process has held since its start, or since :func:`forget_peak_memory`.

    Returns:
        ``resident_bytes`` (None where the platform does not tell) and ``cuda_bytes``, the most that torch had
        allocated on any GPU (None where CUDA is not in use).

    Example:
        >>> peak_memory()["resident_bytes"] > 1_000_000
        True
    """
    torch = sys.modules.get("torch")
    cuda = None
    if torch is not None and torch.cuda.is_initialized():
        cuda = max(
            torch.cuda.max_memory_allocated(index) for index in range(torch.cuda.device_count())
        )
    return {"resident_bytes": _resident(), "cuda_bytes": cuda}


def _resident() -> int | None:
    # On Linux getrusage also counts the process that started this one: a run started by a large process would
    # seem large. The kernel's own high-water mark belongs to this program alone.
    with contextlib.suppress(OSError):
        status = Path("/proc/self/status").read_text(encoding="utf-8", errors="replace")
        mark = re.search(r"^VmHWM:\s*(\d+) kB", status, re.MULTILINE)
        if mark:
            return int(mark.group(1)) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts kibibytes


class Stopwatch:
    """Measures the wall-clock time of a block, including work that a GPU has not finished yet.

    Attributes:
        seconds: Time of the last block that was measured.

    Example:
        >>> with Stopwatch() as watch:
        ...     total = sum(range(1000))
        >>> 0 < watch.seconds < 10
        True
    """

    seconds: float = 0.0
    _started: float = 0.0

    def __enter__(self) -> Self:
        """Start."""
        _synchronize()
        self._started = time.perf_counter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop, whether or not the block ended well."""
        if error is None:  # after a CUDA error synchronising would hide it behind another
            _synchronize()
        self.seconds = time.perf_counter() - self._started


def _synchronize() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()
