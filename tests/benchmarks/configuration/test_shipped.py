"""Commands outside of a checkout read the configurations that come with the installation."""

from pathlib import Path

import pytest
import yaml

from benchmarks.cli import main
from benchmarks.configuration.layers import expand, layers, named, resolve
from benchmarks.configuration.shipped import describe_origins, locate, shipped_root
from benchmarks.students.recipes import load_recipe
from benchmarks.suites.jobs import plan_suite
from ddoq.errors import UserError

SHIPPED = Path(__file__).parents[3] / "configs"


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    """Work in a folder that is no checkout."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(name, text):
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def inside(files):
    """Name files by their place in the installation's folder, and those of the working directory as they are."""
    whole = [file.resolve() for file in files]
    return [
        str(file.relative_to(SHIPPED if file.is_relative_to(SHIPPED) else Path.cwd()))
        for file in whole
    ]


def test_the_folder_of_the_installation():
    assert shipped_root() == SHIPPED
    assert locate(Path("configs/quickstart.yaml")) == SHIPPED / "quickstart.yaml"
    assert locate(Path("configs/../configs/quickstart.yaml")) == SHIPPED / "quickstart.yaml"
    for name in ("quickstart.yaml", "elsewhere/configs/quickstart.yaml", "configs", "configs/x"):
        assert locate(Path(name)) == Path(name)


def test_layers_and_pairs_from_an_empty_folder():
    names = ("datasets/digits.yaml", "methods/sre2l.yaml", "scales/cpu.yaml")
    files = layers([Path("configs") / name for name in names])
    pairs = ["papers/digits/sre2l.yaml", "scales/cpu.yaml", "scales/cpu/sre2l.yaml"]
    assert inside(files) == [*names[:2], *pairs]
    (line,) = describe_origins(files)
    assert line.startswith("configuration: configs/datasets/digits.yaml, configs/methods/sre2l")
    assert str(SHIPPED) in line


def test_a_local_file_of_the_same_path_wins_and_a_line_says_so():
    write("configs/methods/ddoq.yaml", "model: {class_path: DDOQ, init_args: {ipc: 3}}")
    both = ["datasets/digits.yaml", "configs/methods/ddoq.yaml"]
    given = ["--config=configs/datasets/digits.yaml", "--config=configs/methods/ddoq.yaml"]
    assert inside(named(given)) == both
    given = ["--config=configs/quickstart.yaml"]
    assert inside(named(given)) == [*both, "quickstart.yaml"], "what it extends, too"
    first, second = describe_origins(named(given))
    assert "configs/datasets/digits.yaml, configs/quickstart.yaml from the installation" in first
    assert second.startswith("configuration: configs/methods/ddoq.yaml of this folder is read")


def test_files_of_both_folders_belong_together():
    write("configs/datasets/digits.yaml", "data: {class_path: Digits}")
    digits, sre2l = Path("configs/datasets/digits.yaml"), Path("configs/methods/sre2l.yaml")
    assert inside(layers([digits, sre2l]))[-1] == "papers/digits/sre2l.yaml"
    write("configs/papers/digits/sre2l.yaml", "model: {class_path: SRe2L}")
    assert inside(layers([digits, sre2l]))[-1] == "configs/papers/digits/sre2l.yaml"
    digits.unlink()
    assert inside(layers([digits, sre2l]))[-1] == "configs/papers/digits/sre2l.yaml"


@pytest.mark.parametrize(
    ("file", "base"),
    [
        ("mine.yaml", "configs/scales/gpu.yaml"),
        ("deep/mine.yaml", "configs/scales/gpu.yaml"),
        ("configs/datasets/mine.yaml", "../scales/gpu.yaml"),
    ],
)
def test_a_file_of_the_user_extends_the_installation(file, base):
    path = write(file, f"extends: [{base}]")
    assert inside(resolve(path)) == ["scales/gpu.yaml", file]
    assert inside(resolve(path.resolve())) == ["scales/gpu.yaml", file]


def test_what_is_nowhere_is_named_as_it_was_typed():
    with pytest.raises(UserError, match=r"configuration configs/quikstart\.yaml does not exist"):
        expand(["--config", "configs/quikstart.yaml"])
    path = write("mine.yaml", "extends: [configs/nowhere.yaml]")
    with pytest.raises(UserError, match=r"configs/nowhere\.yaml does not exist.*named by"):
        resolve(path)


def test_suites_from_an_empty_folder():
    plan = plan_suite(Path("configs/suites/quickstart.yaml"))
    assert len(plan.cells) == 45
    (line,) = plan.origins
    assert "configs/suites/quickstart.yaml, configs/datasets/digits.yaml" in line
    text = (
        "datasets: [digits]\nmethods: [random, configs/methods/dm.yaml]\nscales: [cpu]\nseeds: [0]"
    )
    mine = plan_suite(write("mine.yaml", text))
    assert [job.name for job in mine.sets] == ["digits random cpu: distil", "digits dm cpu: distil"]
    write(
        "configs/methods/random.yaml", "model: {class_path: RandomSelection, init_args: {ipc: 2}}"
    )
    plan = plan_suite(Path("configs/suites/quickstart.yaml"))
    assert "configs/methods/random.yaml of this folder" in plan.origins[1]
    with pytest.raises(UserError, match=r"no method 'randm'\. Did you mean 'random'"):
        plan_suite(write("mine.yaml", "datasets: [digits]\nmethods: [randm]"))


def test_a_checkout_says_nothing(monkeypatch):
    monkeypatch.chdir(SHIPPED.parent)
    assert describe_origins(resolve(Path("configs/quickstart.yaml"))) == []


def test_the_quickstart_runs_in_an_empty_folder(capsys):
    assert main(["fit", "--config", "configs/quickstart.yaml", "--smoke=true"]) == 0
    printed = capsys.readouterr().out
    assert "configs/quickstart.yaml from the installation" in printed
    assert "(n=1)" in printed


@pytest.mark.parametrize("scale", [[], ["--config=configs/scales/cpu.yaml"]])
def test_photographs_are_mirrored_at_every_scale(scale, capsys):
    given = [f"--config=configs/{name}.yaml" for name in ("datasets/photographs", "methods/ddoq")]
    with pytest.raises(SystemExit):  # after printing
        main(["fit", *given, *scale, "--print_config"])
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["teacher"]["init_args"]["hflip"] is True
    assert load_recipe(shown["recipe"]["name"], shown["recipe"]["overrides"]).flip is True
    sizes = (32, 3) if scale else (64, 3)
    assert (shown["data"]["init_args"]["image_size"], len(shown["students"])) == sizes
    assert ("resnet10t" in {student["arch"] for student in shown["students"]}) == bool(scale)
