import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from ddoq.storage.run_folder import RunFolder, SetFolder

ROOT = Path(__file__).parents[3]
HERE = ROOT / "ddoq" / "storage" / "run_folder.py"
FILES = {
    *("distilled.safetensors", "metadata.json", "images.png", "config.json", "latents.json"),
    *(
        "leaderboard.md",
        "leaderboard.csv",
        "leaderboard.html",
        "transfer.csv",
        "graphs.csv",
        "report.md",
        "logged.json",
    ),
    *("decoding.json", "decoding.md", "curve.png", "record.json"),
}
FOLDERS = {
    *("priors", "teachers", "latents", "shards", "distilled", "labels", "results", "failures"),
    *("students", "curves", "suite", "leaderboards", "wandb", "ingredients"),
    *("decoding", "samples", "theory", "cells", "transfer", "graphs"),
}
PREFIXES = (".ranks-", "class-", "transfer-", "pretrained-", "graphs-")  # of names that go on
# What else is spelled there: endings, kinds of tables, a format, a pattern; and a word that is in use elsewhere.
OTHERS = {
    ".safetensors",
    ".json",
    ".log",
    ".checkpoint",
    ".",
    "markdown",
    "csv",
    "html",
    "_",
    "transfer-csv",
    "graphs-csv",
}
OTHERS |= {"04d", r"[^\w.-]+", "smoke", ".lock", "-", r"[0-9a-f]{16}\.json"}
PATH_CALLS = ("Path", "joinpath", "with_name", "glob", "rglob")


def texts(node: ast.AST) -> Iterator[str]:
    """Give the text of a constant, or the texts in an f-string."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        for part in node.values:
            yield from texts(part)


def parts_of_paths(tree: ast.AST) -> Iterator[str]:
    """Give what is joined to paths: operands of `/`, and arguments of calls that name files."""
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            yield from texts(node.right)
        elif isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if name in PATH_CALLS:
                yield from (text for argument in node.args for text in texts(argument))


def spelled(source: str) -> set[str]:
    """List the names of an output that a source spells: files anywhere, folders where they are parts of paths."""
    tree = ast.parse(source)
    every = {text for node in ast.walk(tree) for text in texts(node)}
    found = every & FILES
    for text in parts_of_paths(tree):
        found |= set(text.split("/")) & (FILES | FOLDERS)
        found |= {prefix for prefix in PREFIXES if text.startswith(prefix)}
    return found


@pytest.mark.parametrize(
    "source",
    [
        'output / "shards" / key',
        'sheet = folder / "images.png"',
        '_SHEET = "images.png"',
        'folder / f".ranks-{token}"',
        'root.glob("distilled/*")',
        'path.with_name("metadata.json")',
    ],
)
def test_spellings_are_noticed(source):
    assert spelled(source)


def test_names_of_records_are_no_spelling():
    assert not spelled('record["labels"], {"distilled": made, "results": []}')


def test_nobody_else_spells_a_name():
    sources = [p for top in ("ddoq", "baselines", "benchmarks") for p in (ROOT / top).rglob("*.py")]
    assert HERE in sources
    wrong = {str(path): spelled(path.read_text()) for path in sources if path != HERE}
    assert {path: names for path, names in wrong.items() if names} == {}


def test_every_name_looked_for_is_a_name():
    """A name that is new or changes in the source must change in the lists above, or they would hold nothing."""
    tree = ast.parse(HERE.read_text())
    docstrings = {
        ast.get_docstring(node, clean=False)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
    }
    every = {text for node in ast.walk(tree) for text in texts(node)} - docstrings
    assert every == FILES | FOLDERS | set(PREFIXES) | OTHERS


def test_names_stay_as_they_were(tmp_path):
    """Outputs of earlier versions are found again."""
    run = RunFolder(tmp_path)
    paths = {
        "priors/vae-1": run.prior("vae-1"),
        "teachers/convnet-1": run.teacher("convnet-1"),
        "latents/k/class-0007.safetensors": run.class_latents("k", 7),
        "latents/k/latents.json": run.latents_record("k"),
        "shards/k/class-0001.safetensors": run.shard("k", "class-0001"),
        "shards/k/class-0001.checkpoint": run.checkpoint("k", "class-0001"),
        "ingredients/Experts-0": run.ingredient("Experts-0"),
        "distilled/a/distilled.safetensors": run.distilled("a").tensors,
        "distilled/a/metadata.json": run.distilled("a").record,
        "distilled/a/images.png": run.distilled("a").sheet,
        "distilled/a/config.json": run.distilled("a").config,
        "decoding/a/decoding.json": run.decoding("a").record,
        "decoding/a/decoding.md": run.decoding("a").table,
        "decoding/a/curve.png": run.decoding("a").curve,
        "decoding/a/images.png": run.decoding("a").sheet,
        "decoding/samples/k.safetensors": run.samples("k"),
        "labels": run.labels,
        "transfer/transfer-0.json": run.transfer("0"),
        "transfer/pretrained-0.safetensors": run.transfer_network("0"),
        "transfer/.0.checkpoint": run.transfer_checkpoint("0"),
        "transfer/.0.lock": run.transfer_lock("0"),
        "graphs/graphs-0.json": run.graph_result("0"),
        "graphs/.0.checkpoint": run.graph_checkpoint("0"),
        "graphs/.0.lock": run.graph_lock("0"),
        "results/0.json": run.result("0"),
        "failures": run.failures,
        "students": run.students,
        "suite/k.json": run.job_report("k"),
        "suite/k.log": run.job_log("k"),
        "leaderboards/a_b/leaderboard.md": run.board_files("a b")["markdown"],
        "leaderboards/a_b/leaderboard.csv": run.board_files("a b")["csv"],
        "leaderboards/a_b/leaderboard.html": run.board_files("a b")["html"],
        "leaderboards/a_b/transfer.csv": run.board_files("a b")["transfer-csv"],
        "leaderboards/a_b/graphs.csv": run.board_files("a b")["graphs-csv"],
        "leaderboards/a_b/report.md": run.board_report("a b"),
        "wandb/distill/a": run.tracked("distill", "a"),
        "wandb/leaderboard/a_b/logged.json": run.tracked_mark("leaderboard", "a b"),
        ".ranks-0": run.ranks("0"),
    }
    assert {name: tmp_path / name for name in paths} == paths


def test_a_set_may_lie_anywhere(tmp_path):
    assert SetFolder(tmp_path).sheet == tmp_path / "images.png"


def test_smoke_runs_have_an_output_of_their_own(tmp_path):
    smoke = RunFolder(tmp_path).smoke
    assert smoke == tmp_path / "smoke"
    assert RunFolder(smoke).smoke == smoke  # of a process that a suite has started there
