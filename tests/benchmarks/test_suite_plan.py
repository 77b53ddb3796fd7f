import pytest
import yaml

from benchmarks.suite_plan import plan_suite
from ddoq.errors import UserError

STUDENTS = [{"name": "a", "arch": "convnet2"}, {"arch": "convnet3"}]


def write(folder, name, content):
    path = folder / name
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture
def suite(tmp_path):
    write(tmp_path, "base.yaml", {"students": STUDENTS, "seeds": [4]})
    write(tmp_path, "one.yaml", {"extends": ["base.yaml"]})
    write(tmp_path, "two.yaml", {"extends": ["base.yaml"], "students": STUDENTS[:1]})

    def make(**changes):
        content = {"configs": ["one.yaml", "two.yaml"], "grid": {"model.init_args.ipc": [1, 10]}}
        return write(tmp_path, "suite.yaml", {**content, **changes})

    return make


def test_the_grid_is_the_product_of_everything(suite):
    plan = plan_suite(suite(seeds=[0, 1, 2]))
    assert len(plan.sets) == 2 * 2
    assert len(plan.cells) == 2 * 3 * (2 + 1)  # budgets, seeds, students of both files
    assert plan.sets[0].name == "one ipc=1: distil"
    assert plan.cells[0].name == "one ipc=1: a, seed 0"
    assert "--model.init_args.ipc=10" in plan.sets[1].arguments


def test_seeds_and_students_come_from_the_configuration_unless_given(suite):
    assert {job.arguments[-1] for job in plan_suite(suite()).cells} == {"--seeds=[4]"}
    plan = plan_suite(suite(students=[{"arch": "resnet18"}]))
    assert all('--students=[{"arch": "resnet18"}]' in job.arguments for job in plan.cells)


def test_jobs_are_keyed_by_all_they_do(suite, tmp_path):
    keys = {job.key for job in plan_suite(suite()).cells}
    assert keys == {job.key for job in plan_suite(suite()).cells}
    assert keys.isdisjoint(job.key for job in plan_suite(suite(), tmp_path / "x").cells)
    extra = plan_suite(suite(), extra=("--recipe.name=sre2l",)).cells
    assert keys.isdisjoint(job.key for job in extra)
    write(tmp_path, "base.yaml", {"students": STUDENTS, "seeds": [4], "data": {"class_path": "X"}})
    assert keys.isdisjoint(job.key for job in plan_suite(suite()).cells)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config": []}, "unknown key 'config'. Did you mean 'configs'"),
        ({"configs": []}, "`configs` must be a list"),
        ({"configs": ["three.yaml"]}, r"three\.yaml does not exist"),
        ({"grid": {"model.init_args.ipc": 10}}, "list of values"),
        ({"seeds": 3}, "`seeds` must be a list"),
    ],
)
def test_mistakes_are_named(suite, changes, message):
    with pytest.raises(UserError, match=message):
        plan_suite(suite(**changes))


def test_a_configuration_without_students_is_named(suite, tmp_path):
    write(tmp_path, "base.yaml", {"seeds": [4]})
    with pytest.raises(UserError, match=r"one\.yaml names no student"):
        plan_suite(suite())
