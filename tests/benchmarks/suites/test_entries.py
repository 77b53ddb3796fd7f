from pathlib import Path

import pytest

from benchmarks.suites.entries import list_entries
from ddoq.errors import UserError


@pytest.fixture
def tree(tmp_path):
    names = ("datasets/digits", "datasets/mine", "methods/random", "methods/ddoq", "scales/cpu")
    for name in names:
        path = tmp_path / "configs" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x: 1")
    return tmp_path


def told(path, **content):
    return [
        (
            entry.title,
            [f"{file.parent.name}/{file.stem}" for file in entry.files],
            len(entry.values),
        )
        for entry in list_entries(path, content)
    ]


PLACES = ["configs/suites/s.yaml", "configs/s.yaml", "s.yaml", "experiments/s.yaml"]


@pytest.mark.parametrize("place", PLACES)
def test_names_are_looked_up_near_the_suite(tree, place):
    (entry,) = list_entries(tree / place, {"datasets": ["digits"], "methods": ["random"]})
    for file, name in zip(entry.files, ("datasets/digits", "methods/random"), strict=True):
        assert file.resolve() == tree / "configs" / f"{name}.yaml"


@pytest.mark.parametrize("place", PLACES)
def test_names_are_looked_up_near_a_suite_that_is_named_relatively(tree, place, monkeypatch):
    (tree / place).parent.mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(tree)
    content = {"datasets": ["digits"], "methods": ["random"]}
    assert all(file.is_file() for file in list_entries(Path(place), content)[0].files)
    monkeypatch.chdir((tree / place).parent)
    assert all(file.is_file() for file in list_entries(Path("s.yaml"), content)[0].files)


def test_every_method_runs_at_every_scale_on_every_dataset(tree):
    content = {"datasets": ["digits", "mine"], "methods": ["random", "ddoq"], "scales": ["cpu"]}
    parts = ["datasets/digits", "methods/random", "scales/cpu"]
    entries = told(tree / "s.yaml", **content)
    assert entries[0] == ("digits random cpu", parts, 1)
    titles = [title for title, _, _ in entries]
    assert titles == ["digits random cpu", "digits ddoq cpu", "mine random cpu", "mine ddoq cpu"]


def test_configurations_come_first(tree):
    content = {"configs": ["one.yaml"], "datasets": ["digits"], "methods": ["random"]}
    assert [title for title, _, _ in told(tree / "s.yaml", **content)] == ["one", "digits random"]


def test_an_entry_may_be_a_file(tree):
    content = {"datasets": ["elsewhere/d.yaml"], "methods": ["random"]}
    ((title, (file, _), _),) = told(tree / "s.yaml", **content)
    assert (title, file) == ("d random", "elsewhere/d")


def test_grids_of_all_parts_are_combined(tree):
    content = {
        "datasets": [{"dataset": "digits", "grid": {"data.init_args.image_size": [8, 16]}}],
        "methods": [{"method": "ddoq", "grid": {"model.init_args.weight_power": [0.5, 1.0]}}],
        "grid": {"recipe.name": ["unified"]},
        "ipc": [1, 10],
    }
    (entry,) = list_entries(tree / "s.yaml", content)
    assert len(entry.values) == 2 * 2 * 2
    assert list(entry.values[0].items()) == [
        ("model.init_args.ipc", 1),
        ("recipe.name", "unified"),
        ("data.init_args.image_size", 8),
        ("model.init_args.weight_power", 0.5),
    ]


def test_a_method_may_have_budgets_of_its_own_or_none(tree):
    methods = ["random", {"method": "ddoq", "ipc": [3]}, {"method": "ddoq", "ipc": None}]
    content = {"datasets": ["digits"], "methods": methods, "ipc": [1, 10]}
    values = [entry.values for entry in list_entries(tree / "s.yaml", content)]
    budget = "model.init_args.ipc"
    assert values == [({budget: 1}, {budget: 10}), ({budget: 3},), ({},)]


def test_an_unknown_name_gets_the_nearest(tree):
    content = {"datasets": ["digitz"], "methods": ["random"]}
    message = "there is no dataset 'digitz'. Did you mean 'digits'"
    with pytest.raises(UserError, match=message):
        list_entries(tree / "s.yaml", content)
