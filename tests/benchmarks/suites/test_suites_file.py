"""What a suite file may hold: everything else is named, with the mend."""

import pytest
import yaml

from benchmarks.suites.file import check_seeds, check_students, grids, label_of, read_suite
from ddoq.errors import UserError


@pytest.fixture
def suite(tmp_path):
    (tmp_path / "one.yaml").write_text("students: [{arch: convnet2}]")

    def make(**changes):
        content = {"configs": ["one.yaml"], "grid": {"model.init_args.ipc": [1, 10]}, **changes}
        path = tmp_path / "suite.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    return make


def test_a_good_file_is_returned_as_it_is(suite):
    students = [{"name": "a", "arch": "convnet2"}, {"arch": "convnet3", "stem": "small"}]
    entry = {"config": "one.yaml", "grid": [{"recipe.name": ["hard"]}]}
    told = {
        "configs": ["one.yaml", entry],
        "datasets": ["digits"],
        "methods": ["random", {"method": "full", "ipc": None}, {"method": "ddoq", "ipc": [5]}],
        "scales": ["cpu"],
        "ipc": [1, 10],
        "grid": [{"model.init_args.weight_power": [1]}, {"recipe.name": ["sre2l"]}],
        "students": students,
        "seeds": [0, 3],
        "name": "mine",
        "output": "runs",
        "paired_seeds": True,
    }
    assert read_suite(suite(**told)) == told


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"suite\.yaml does not exist"),
        ("configs: [", r"suite\.yaml"),
        ("[one.yaml]", r"suite\.yaml"),
    ],
)
def test_a_file_that_is_no_mapping_is_named(tmp_path, text, message):
    path = tmp_path / "suite.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_suite(path)


def test_configurations_must_be_listed(tmp_path):
    (tmp_path / "suite.yaml").write_text("seeds: [0]")
    with pytest.raises(UserError, match=r"`datasets` and `methods` .* must list"):
        read_suite(tmp_path / "suite.yaml")


def test_grids_are_a_list_whatever_the_file_says():
    one = {"model.init_args.ipc": [1]}
    assert grids({"grid": one}) == [one] == grids({"grid": [one]})
    assert grids({"grid": [one, one]}) == [one, one]
    assert grids({}) == [{}]


def test_a_student_is_called_by_its_name_or_its_architecture():
    assert label_of({"name": "a", "arch": "b"}) == "a"
    assert label_of({"arch": "b"}) == "b"


def test_lists_from_elsewhere_are_named_by_their_file(tmp_path):
    config = tmp_path / "base.yaml"
    with pytest.raises(UserError, match=r"base\.yaml: `students` must be a list"):
        check_students(config, {"arch": "a"})
    with pytest.raises(UserError, match=r"base\.yaml: `seeds` must be a list of integers.*not 3"):
        check_seeds(config, 3)
    with pytest.raises(UserError, match=r"from 0 to 4294967295 .* not \[-1\]"):
        check_seeds(config, [-1])
    check_students(config, [{"arch": "a"}, {"arch": "a", "stem": "small"}])
    check_seeds(config, [0, 1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config": []}, "unknown key 'config'. Did you mean 'configs'"),
        ({"datasets": ["digits"]}, "`datasets` and `methods` belong together"),
        ({"methods": ["random"]}, "`datasets` and `methods` belong together"),
        ({"scales": ["cpu"]}, "`scales` are those of `datasets` and `methods`"),
        ({"methods": "random", "datasets": ["digits"]}, "`methods` must be a list"),
        ({"ipc": 10}, "`ipc` must be a list"),
        ({"ipc": [0], "grid": {}}, "`ipc` must be a list of integers from 1 on"),
        ({"ipc": [1, 1], "grid": {}}, "the budget 1 is listed twice"),
        ({"ipc": [1]}, "`ipc` sets 'model.init_args.ipc': take that out of the grid"),
        ({"configs": []}, "`configs` must be a list"),
        ({"grid": {"model.init_args.ipc": 10}}, "list of values"),
        ({"seeds": 3}, "`seeds` must be a list"),
        ({"seeds": [0, "1"]}, "`seeds` must be a list of integers"),
        ({"seeds": [0, True]}, "`seeds` must be a list of integers"),
        ({"seeds": [1, 1]}, "the seed 1 is listed twice"),
        ({"seeds": [2**32]}, "`seeds` must be a list of integers from 0 to 4294967295"),
        ({"grid": {"model.init_args.seed": [3, 3]}}, "the seed 3 is listed twice"),
        ({"grid": {"teacher.init_args.seed": [-1]}}, "'teacher.init_args.seed' in `grid` must be"),
        ({"students": ["resnet18"]}, "must be a mapping with `arch`"),
        ({"students": [{"name": "x"}]}, "must be a mapping with `arch`"),
        ({"students": [{"arch": "a", "stam": 1}]}, "unknown key 'stam'.*Did you mean 'stem'"),
        ({"students": [{"arch": "a"}] * 2}, "'a' is listed twice"),
        ({"students": [{"arch": "a"}, {"arch": "a", "name": "b"}]}, "'a' or 'b' is listed twice"),
        ({"grid": {"modle.ipc": [1]}}, "unknown key 'modle.ipc' in `grid`. Did you mean 'model'"),
        ({"grid": {"seeds": [[1]]}}, "no key for a grid; list `seeds`"),
        ({"name": 3}, "`name` must be text"),
    ],
)
def test_mistakes_are_named(suite, changes, message):
    with pytest.raises(UserError, match=message):
        read_suite(suite(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"paired_seeds": "yes"}, "`paired_seeds` must be true or false"),
        (
            {"paired_seeds": True, "grid": {"model.init_args.seed": [1]}},
            "take that out of the grid",
        ),
        ({"configs": [{"grid": {}}]}, "must be a file, or a mapping"),
        (
            {"configs": [{"config": "one.yaml", "grids": {}}]},
            "unknown key 'grids'.*Did you mean 'grid'",
        ),
        ({"configs": [{"config": "one.yaml", "grid": {"mdel.x": [1]}}]}, "unknown key 'mdel.x'"),
        (
            {"datasets": ["digits"], "methods": [{"config": "random"}]},
            "an entry of `methods` must be a name or a file, .* {method: NAME",
        ),
        (
            {"datasets": ["digits"], "methods": [{"method": "random", "seeds": [1]}]},
            "unknown key 'seeds' beside 'random'",
        ),
        (
            {"datasets": ["digits"], "methods": [{"method": "random", "ipc": [1]}]},
            "take that out of the grid",
        ),
    ],
)
def test_mistakes_in_entries_are_named(suite, changes, message):
    with pytest.raises(UserError, match=message):
        read_suite(suite(**changes))
