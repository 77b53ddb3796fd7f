"""What is not installed is named, and whoever works on images does not miss it."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ddoq.errors import UserError
from ddoq.graphs.extra import require

ROOT = Path(__file__).parents[3]
NETWORKS = (
    ROOT / "ddoq" / "graphs" / "networks.py"
)  # the one module that needs the extra to be imported


def imports(nodes: list[ast.stmt]) -> Iterator[str]:
    """List what is imported as a module is, not when its functions are called or for type checkers."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Try):
            yield from imports(node.body)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.unparse(node.test):
            yield from imports([*node.body, *node.orelse])


def test_no_module_but_one_imports_the_extra():
    needing = set()
    for package in ("ddoq", "baselines", "benchmarks"):
        for path in (ROOT / package).rglob("*.py"):
            for name in imports(ast.parse(path.read_text(encoding="utf-8")).body):
                optional = name.partition(".")[0] in ("torch_geometric", "ogb")
                if optional or name == "ddoq.graphs.networks":
                    needing.add(path)
    assert needing == {NETWORKS}


@pytest.mark.parametrize("package", ["torch_geometric", "ogb"])
def test_a_package_that_is_missing_is_named(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"{package}, which is not .* 'ddoq-bench\[graphs\]'"):
        require(package)


def test_what_is_there_is_imported():
    assert require("json") is sys.modules["json"]
