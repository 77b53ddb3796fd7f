"""What `--dry-run` finds in a suite: everything that a process would refuse at its start, without a dataset."""

import pytest
import yaml

from benchmarks.cli import main

METHOD = {"class_path": "RandomSelection", "init_args": {"ipc": 2}}
STUDENT = {"arch": "convnet2-w8"}


@pytest.fixture
def dry_run(tmp_path, capsys):
    """Write a suite over a configuration, look at it, and return the status and what was said."""
    base = {"data": {"class_path": "Digits"}, "model": METHOD, "students": [STUDENT]}
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(base))

    def run(*options, **content):
        path = tmp_path / "suite.yaml"
        suite = {"name": "s", "configs": ["base.yaml"], "output": str(tmp_path / "runs")}
        path.write_text(yaml.safe_dump({**suite, **content}))
        status = main(["suite", str(path), "--dry-run", *options])
        assert not (tmp_path / "runs").exists()
        return status, "".join(capsys.readouterr())

    return run


def test_a_valid_grid_is_listed(dry_run):
    grid = {"model.init_args.ipc": [1, 2], "recipe.name": ["hard", "unified"]}
    status, said = dry_run(grid=grid, seeds=[0, 1], students=[STUDENT, {"arch": "convnet2-w4"}])
    assert status == 0
    assert "0 of 18 jobs of s are done." in said


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"trainer.deviecs": [1]}, "Unknown key 'deviecs' of Trainer. Did you mean 'devices'?"),
        ({"model.init_args.icp": [1]}, "Unknown key 'icp' of RandomSelection. Did you mean 'ipc'?"),
        ({"model.class_path": ["Herdnig"]}, "Unknown class 'Herdnig' for `model`. Did you mean 'Herding'?"),
        ({"data.class_path": ["Digit"]}, "Unknown class 'Digit' for `data`. Did you mean 'Digits'?"),
        ({"model.init_args.ipc": [1, "many"]}, "`ipc` of RandomSelection must be a whole number, not 'many'."),
        ({"model.init_args.ipc": [0]}, "ipc must be at least 1"),
        ({"recipe.name": ["hrad"]}, "There is no recipe 'hrad'. Did you mean 'hard'?"),
        ({"recipe.overrides.epohcs": [1]}, "unknown key 'epohcs'. Did you mean 'epochs'?"),
        ({"recipe.overrides.epochs": [0]}, "epochs must be at least 1"),
        ({"evaluation.ranks": ["dpd"]}, "There is no evaluation.ranks 'dpd'"),
        ({"data.init_args.image_size": [0]}, "image_size"),
        ({"data.class_path": ["Motifs"], "recipe.name": ["hard"]}, "motifs holds graphs, on which --recipe has no effect"),
    ],
)  # fmt: skip
def test_wrong_values_of_a_grid_are_found(grid, message, dry_run):
    status, said = dry_run(grid=grid)
    assert status == 2
    assert message in said
    assert "jobs of s" not in said


def test_wrong_students_are_found(dry_run):
    status, said = dry_run(students=[STUDENT, {"arch": "resnet1"}])
    assert status == 2
    assert "'resnet1'" in said
    assert "s would fail: base: " in said
    status, said = dry_run(students=[{"arch": "resnet18", "nmae": "x"}])
    assert (status, "Did you mean 'name'?" in said) == (2, True)


def test_all_problems_are_listed_each_once(dry_run):
    grid = {"recipe.name": ["hrad", "hard"], "model.class_path": ["Herdnig", "RandomSelection"]}
    status, said = dry_run(grid=grid, seeds=[0, 1])
    assert status == 2
    assert said.count("Herdnig'") == 1
    assert said.count("recipe 'hrad'") == 1


def test_options_behind_the_suite_are_looked_at_too(dry_run):
    status, said = dry_run("--recipe.name=hrad")
    assert (status, "Did you mean 'hard'?" in said) == (2, True)
    status, said = dry_run("--output", "")
    assert (status, "--output is empty" in said) == (2, True)
