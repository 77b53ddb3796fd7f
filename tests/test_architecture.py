"""The lines that the layout draws: imports go one way, in no circle, and the command line starts light."""

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Rooms from the ground up: each may import from those before it and from nothing behind it.
FLOORS = {
    "ddoq": (
        *("errors", "bounds", "chance", "finite", "smoke", "console", "seeding", "images"),
        *("precision", "escaping", "fonts", "storage", "data", "networks"),
        "augmentation",
        *("objectives", "labels", "decoding", "quantization", "selection", "optimisation"),
        *(
            "costs",
            "teachers",
            "priors",
            "distillation",
            "trajectories",
            "self_supervised",
            "latents",
        ),
        *("graphs", "exchange", "measures", "ddoq"),
    ),
    "baselines": (),  # a method may take another's parts; circles are refused below
    "benchmarks": (
        *(
            "results",
            "tables",
            "tracking",
            "students",
            "statistics",
            "leaderboard",
        ),
        *(
            "transfer",
            "graphs",
            "planning",
            "run",
            "decoding",
            "theory",
            "configuration",
            "suites",
            "commands",
        ),
        *("cli", "__main__"),
    ),
}
# Mathematics on tensors, without Lightning in sight.
PURE = (
    "ddoq/augmentation/*.py",
    "ddoq/labels/*.py",
    "ddoq/decoding/*.py",
    "ddoq/networks/*.py",
    "ddoq/objectives/*.py",
    "ddoq/quantization/*.py",
    "ddoq/selection/*.py",
    "ddoq/trajectories/steps.py",
    "baselines/sre2l/recover.py",
)


def modules() -> dict[str, Path]:
    found = {}
    for package in FLOORS:
        for file in (ROOT / package).rglob("*.py"):
            parts = file.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


MODULES = modules()


@functools.cache
def imported(path: Path) -> frozenset[str]:
    """List the dotted names that a file imports: of modules, and of what it takes out of them."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(names)


@functools.cache
def graph() -> dict[str, set[str]]:
    """Say which of our modules import which, a package's own ``__init__`` only where nothing below it is meant."""
    edges = {}
    for name, path in MODULES.items():
        mine = {other for other in imported(path) if other in MODULES} - {name}
        edges[name] = {
            other for other in mine if not any(deeper.startswith(f"{other}.") for deeper in mine)
        }
    return edges


def room(name: str) -> str:
    return ".".join(name.split(".")[:2])


def circles(edges: dict[str, set[str]]) -> Iterator[list[str]]:
    """Walk from every node; yield a path that comes back to where it has been."""
    done: set[str] = set()

    def walk(node: str, path: list[str]) -> Iterator[list[str]]:
        if node in path:
            yield [*path[path.index(node) :], node]
            return
        if node in done:
            return
        for other in sorted(edges.get(node, ())):
            yield from walk(other, [*path, node])
        done.add(node)

    for node in sorted(edges):
        yield from walk(node, [])


def test_circles_are_noticed():
    assert list(circles({"a": {"b"}, "b": {"c"}, "c": {"a"}})) == [["a", "b", "c", "a"]]
    assert list(circles({"a": {"b", "c"}, "b": {"c"}, "c": set()})) == []


def test_no_circle_of_modules():
    assert list(circles(graph())) == []


def test_no_circle_of_rooms():
    rooms: dict[str, set[str]] = {}
    for name, others in graph().items():
        rooms.setdefault(room(name), set()).update(room(other) for other in others)
    for name, others in rooms.items():
        others.discard(name)
    # `ddoq/__init__.py` offers classes of the rooms above it, imported when asked for.
    assert rooms.pop("ddoq") <= {"ddoq.ddoq", "ddoq.distillation"}
    assert list(circles(rooms)) == []


@pytest.mark.parametrize("package", FLOORS)
def test_imports_go_one_way(package):
    allowed = {"ddoq": {"ddoq"}, "baselines": {"ddoq", "baselines"}}.get(package, set(FLOORS))
    names = [name for name in MODULES if name.split(".")[0] == package]
    assert len(names) > 5
    for name in names:
        used = {other.split(".")[0] for other in imported(MODULES[name])} & set(FLOORS)
        assert used <= allowed, name


@pytest.mark.parametrize("package", [package for package, floors in FLOORS.items() if floors])
def test_every_room_stands_on_those_below(package):
    floors = FLOORS[package]
    here = {name.split(".")[1] for name in MODULES if name.startswith(f"{package}.")}
    assert here == set(floors), "a room is new or gone: say in FLOORS on which floor it stands"
    for name, others in graph().items():
        if not name.startswith(f"{package}."):
            continue
        mine = floors.index(name.split(".")[1])
        above = {
            other
            for other in others
            if other.startswith(f"{package}.") and floors.index(other.split(".")[1]) > mine
        }
        assert not above, f"{name} imports {above} from a floor above its own"


@pytest.mark.parametrize("pattern", PURE)
def test_mathematics_knows_no_lightning(pattern):
    files = list(ROOT.glob(pattern))
    assert files, f"{pattern} matches nothing: the test would hold nothing"
    heavy = {"lightning"}
    wrong = [str(f) for f in files if heavy & {name.split(".")[0] for name in imported(f)}]
    assert wrong == []


def test_tests_mirror_the_source():
    """A folder of tests that no longer has its source would hold nothing."""
    for folder in (ROOT / "tests").rglob("*"):
        parts = folder.relative_to(ROOT / "tests").parts
        if folder.is_dir() and parts[0] in FLOORS and "__pycache__" not in parts:
            assert (ROOT / Path(*parts)).is_dir(), f"{folder} mirrors no folder of the source"


def test_files_stay_short():
    assert len(MODULES) > 150
    long = {name: n for name, f in MODULES.items() if (n := len(f.read_text().splitlines())) > 400}
    assert long == {}


def lines_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count the lines of a function without its docstring."""
    lines = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function) is not None:
        text = function.body[0]
        lines -= text.end_lineno - text.lineno + 1
    return lines


def test_functions_stay_short():
    long = {
        f"{name}.{node.name}": count
        for name, file in MODULES.items()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (count := lines_of(node)) >= 60
    }
    assert long == {}


def test_folders_stay_small():
    folders: dict[Path, int] = {}
    for file in MODULES.values():
        folders[file.parent] = folders.get(file.parent, 0) + (file.name != "__init__.py")
    assert {str(folder): n for folder, n in folders.items() if n > 15} == {}


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from benchmarks.cli import main; main(['--help']);"
        "heavy = {'torch', 'lightning', 'diffusers', 'timm', 'wandb', 'datasets'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "ddoq-bench COMMAND" in done.stdout
