import pytest
import yaml

from benchmarks.suites.jobs import plan_suite, wandb_options
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


def test_a_configuration_that_is_missing_is_named(suite):
    with pytest.raises(UserError, match=r"three\.yaml does not exist"):
        plan_suite(suite(configs=["three.yaml"]))


def test_a_configuration_without_students_is_named(suite, tmp_path):
    write(tmp_path, "base.yaml", {"seeds": [4]})
    with pytest.raises(UserError, match=r"one\.yaml names no student"):
        plan_suite(suite())


def test_recipes_share_a_distillation_and_a_list_of_grids_is_a_union(suite):
    grid = [
        {"model.init_args.ipc": [1, 10], "recipe.name": ["unified"]},
        {"model.init_args.ipc": [1], "recipe.name": ["sre2l"], "recipe.overrides.epochs": [2, 3]},
    ]
    plan = plan_suite(suite(configs=["two.yaml"], grid=grid))
    assert [job.name for job in plan.sets] == ["two ipc=1: distil", "two ipc=10: distil"]
    assert len(plan.cells) == 4
    assert [job.needs for job in plan.cells] == [plan.sets[i].key for i in (0, 1, 0, 0)]
    assert not any(
        argument.startswith("--recipe") for job in plan.sets for argument in job.arguments
    )
    assert "--recipe.overrides.epochs=3" in plan.cells[3].arguments


def test_the_group_is_the_suites_unless_another_is_given(suite, tmp_path):
    plan = plan_suite(suite(name="mine"))
    assert [options.group for options in plan.wandb] == ["mine"]
    assert plan.cells[0].defaults == ("--wandb.group=mine",)
    assert plan.cells[0].key == plan_suite(suite(name="other")).cells[0].key
    given = plan_suite(suite(), extra=("--wandb.group", "typed", "--wandb.mode=disabled"))
    assert [(o.group, o.mode) for o in given.wandb] == [("typed", "disabled")]
    write(tmp_path, "two.yaml", {"extends": ["base.yaml"], "wandb": {"group": "configured"}})
    groups = [options.group for options in plan_suite(suite(name="mine")).wandb]
    assert groups == ["mine", "configured"]


def test_a_suite_without_a_name_is_its_file_and_what_it_compares(suite):
    name = plan_suite(suite()).name
    assert name.startswith("suite-")
    assert plan_suite(suite(seeds=[0, 1], students=STUDENTS)).name == name
    assert plan_suite(suite(grid={"model.init_args.ipc": [5]})).name != name


def test_a_further_configuration_is_read_after_the_suites(suite, tmp_path):
    more = write(tmp_path, "more.yaml", {"students": [{"arch": "tiny"}], "seeds": [7]})
    plan = plan_suite(suite(), extra=("--config", str(more)))
    assert {job.arguments[-1] for job in plan.cells} == {"--seeds=[7]"}
    assert all("tiny" in job.name for job in plan.cells)
    before = {job.key for job in plan.cells}
    write(tmp_path, "more.yaml", {"students": [{"arch": "tiny"}], "seeds": [7], "output": "x"})
    again = plan_suite(suite(), extra=("--config", str(more)))
    assert before.isdisjoint(job.key for job in again.cells)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (("--seeds", "[0]"), "--seeds is no option of a suite; list `seeds` in the suite file"),
        (("--model.init_args.ipc=3",), "would overrule 'model.init_args.ipc' in the suite's grid"),
        (("stray",), "'stray' is no option"),
        (("--wandb.nope=1",), "The options `wandb` are wrong"),
    ],
)
def test_options_that_would_be_lost_are_refused(suite, extra, message):
    with pytest.raises(UserError, match=message):
        plan_suite(suite(), extra=extra)


def test_wandb_options_follow_layers_and_order(suite, tmp_path):
    first = write(tmp_path, "w.yaml", {"wandb": {"project": "p", "tags": ["t"]}})
    found = wandb_options(("--wandb.project=early", "--config", str(first), "--wandb.mode=online"))
    assert (found.project, found.tags, found.mode) == ("p", ["t"], "online")


def test_an_entry_may_have_a_grid_of_its_own(suite):
    two = {"config": "two.yaml", "grid": {"model.init_args.weight_power": [0.5, 1.0]}}
    plan = plan_suite(suite(configs=["one.yaml", two], seeds=[0]))
    assert len(plan.sets) == 2 * (1 + 2)
    assert len(plan.cells) == 2 * (2 + 2 * 1)
    powers = [
        (job.name, a) for job in plan.sets for a in job.arguments if a.endswith(("=0.5", "=1.0"))
    ]
    assert len(powers) == 4
    assert all(name.startswith("two ") for name, _ in powers)


def test_paired_seeds_give_every_student_a_set_of_its_own_seed(suite):
    content = {
        "grid": {"recipe.name": ["unified", "sre2l"]},
        "seeds": [0, 3],
        "configs": ["two.yaml"],
    }
    plan = plan_suite(suite(**content, paired_seeds=True))
    assert len(plan.sets) == 2  # one a seed, for both recipes
    assert len(plan.cells) == 4
    for job in plan.cells:
        (student,) = [a for a in job.arguments if a.startswith("--seeds=")]
        (made,) = [a for a in job.arguments if a.startswith("--model.init_args.seed=")]
        assert student == f"--seeds=[{made.rpartition('=')[2]}]"
        (distil,) = [other for other in plan.sets if other.key == job.needs]
        assert made in distil.arguments


def test_options_cannot_overrule_paired_seeds(suite):
    with pytest.raises(UserError, match=r"model\.init_args\.seed"):
        plan_suite(suite(paired_seeds=True), extra=("--model.init_args.seed=3",))


@pytest.fixture
def tree(tmp_path):
    for folder in ("datasets", "methods", "scales/small", "papers/digits"):
        (tmp_path / folder).mkdir(parents=True)
    write(tmp_path, "datasets/digits.yaml", {"students": STUDENTS, "seeds": [0, 1]})
    write(tmp_path, "methods/ddoq.yaml", {"model": {"class_path": "DDOQ"}})
    write(tmp_path, "scales/small.yaml", {"students": STUDENTS[:1]})
    write(tmp_path, "papers/digits/ddoq.yaml", {"seeds": [7]})
    return tmp_path


def plan_of(tree, extra=(), **content):
    content = {"datasets": ["digits"], "methods": ["ddoq"], **content}
    return plan_suite(write(tree, "suite.yaml", content), extra=extra)


def test_datasets_methods_and_scales_are_a_grid(tree):
    plan = plan_of(tree, scales=["small"], ipc=[1, 5])
    assert [job.name for job in plan.cells] == [
        "digits ddoq small ipc=1: a, seed 7",
        "digits ddoq small ipc=5: a, seed 7",
    ]
    named = [a for a in plan.cells[0].arguments if a.endswith(".yaml")]
    assert [name.rpartition("/")[2] for name in named] == ["digits.yaml", "ddoq.yaml", "small.yaml"]
    with pytest.raises(UserError, match=r"would overrule 'model\.init_args\.ipc'"):
        plan_of(tree, ipc=[1], extra=("--model.init_args.ipc=3",))


def test_files_that_belong_to_a_pair_count(tree):
    before = {job.key for job in plan_of(tree).cells}
    assert {job.arguments[-1] for job in plan_of(tree).cells} == {"--seeds=[7]"}
    write(tree, "papers/digits/ddoq.yaml", {"seeds": [7], "output": "x"})
    assert before.isdisjoint(job.key for job in plan_of(tree).cells)
    scale = str(tree / "scales" / "small.yaml")
    write(tree, "scales/small/ddoq.yaml", {"seeds": [8]})
    assert plan_of(tree, extra=("--config", scale)).cells[0].arguments[-1] == "--seeds=[8]"


def test_the_name_of_a_grid_is_that_of_what_it_compares(tree):
    name = plan_of(tree).name
    assert name == plan_of(tree, seeds=[0, 1, 2], students=STUDENTS).name
    others = [plan_of(tree, **more).name for more in ({"ipc": [1]}, {"scales": ["small"]})]
    assert len({name, *others}) == 3


def test_a_smoke_run_has_one_cell_a_combination(tree):
    content = {"ipc": [1, 5], "seeds": [0, 1], "students": STUDENTS, "paired_seeds": True}
    grid = {"recipe.name": ["unified", "sre2l"]}
    plan = plan_of(tree, extra=("--smoke=true",), grid=grid, **content)
    assert [job.name for job in plan.cells] == [
        "digits ddoq name=unified: a, seed 0",
        "digits ddoq name=sre2l: a, seed 0",
    ]
    assert len(plan.sets) == 1
    assert "--smoke=true" in plan.cells[0].arguments
    assert [options.mode for options in plan.wandb] == ["disabled"]
    assert str(plan.output) == "runs/smoke"
    assert plan.cells[0].arguments[-4:-2] == ("--output", "runs/smoke")
    assert len(plan_of(tree, extra=("--smoke=false",), grid=grid, **content).cells) == 2 * 2 * 2 * 2
