"""What is said of a class ends where a later layer names another one."""

import pytest
import yaml

from benchmarks.cli import main
from benchmarks.commands.configured import configure
from benchmarks.configuration.layers import expand
from benchmarks.configuration.parts import Parts, option
from benchmarks.configuration.shipped import shipped_root
from ddoq.errors import UserError

DIGITS, DDOQ, D4M = (
    f"{shipped_root()}/{name}.yaml" for name in ("datasets/digits", "methods/ddoq", "methods/d4m")
)


@pytest.fixture
def layer(tmp_path):
    """Write a layer and return the options that name it."""

    def write(name, **content):
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(content))
        return ["--config", str(path)]

    return write


def part(kind, **arguments):
    return {"class_path": kind, "init_args": arguments}


SAMPLING = {"strength": 0.5, "guidance_scale": 3.0}


def test_another_method_takes_nothing_from_the_one_before(layer):
    below = layer("a", data="Digits", model=part("DDOQ", ipc=3, seed=7, sampling=SAMPLING))
    for above in (
        layer("b", model=part("D4M", ipc=2, sampling={"strength": 0.4})),
        ["--model=D4M", "--model.ipc=2", "--model.sampling.strength=0.4"],
        ["--model", "D4M", "--model.init_args.ipc", "2", "--model.sampling.strength", "0.4"],
        ["--model.class_path", "D4M", "--model.ipc=2", "--model.sampling.strength=0.4"],
    ):
        cli = configure("fit", [*below, *above])
        arguments = cli.config["model"]["init_args"]
        assert (arguments["ipc"], arguments["seed"]) == (2, 0)
        assert arguments["sampling"]["strength"] == 0.4
        assert arguments["sampling"]["guidance_scale"] == 4.0, "the default, not that of below"


def test_the_shipped_methods_can_be_layered():
    cli = configure("fit", [f"--config={name}" for name in (DIGITS, DDOQ, D4M)])
    assert type(cli.model).__name__ == "D4M"
    files = [DIGITS, DDOQ.replace("ddoq", "ddoq_sd"), D4M.replace("d4m", "d4m_sd")]
    assert type(configure("fit", [f"--config={name}" for name in files]).model).__name__ == "D4M"


def test_a_dataset_takes_no_name_from_the_one_below(layer, tmp_path):
    named = part("ImageFolderImages", root=str(tmp_path), image_size=8, dataset_name="mine")
    layer("base", data=named)
    other = part("HuggingFaceImages", path="a/b", image_size=8, image_column="image")
    cli = configure("fit", layer("top", extends=["base.yaml"], data=other))
    assert cli.config["data"]["init_args"]["dataset_name"] is None


def test_the_same_class_keeps_its_arguments_however_it_is_named(layer):
    below = layer("a", data="Digits", model=part("DDOQ", ipc=3))
    for name in ("DDOQ", "ddoq.ddoq.DDOQ", "ddoq.DDOQ"):
        cli = configure("fit", [*below, *layer("b", model=part(name, batch_size=8))])
        assert cli.config["model"]["init_args"]["ipc"] == 3


def test_a_class_from_a_file_of_its_own_replaces_and_is_replaced(layer, tmp_path):
    below = layer("a", data="Digits", model="one.yaml")
    layer("one", **part("DDOQ", ipc=3, seed=7))
    assert configure("fit", below).config["model"]["init_args"]["seed"] == 7
    cli = configure("fit", [*below, *layer("b", model=part("D4M", ipc=2))])
    assert cli.config["model"]["init_args"]["seed"] == 0
    (tmp_path / "one.yaml").write_text("class_path: DDOQ\nclass_path: D4M\n")
    with pytest.raises(UserError, match=r"one\.yaml, line 2: the key 'class_path' is there twice"):
        configure("fit", below)


def test_what_a_user_wrote_is_not_dropped_without_a_word(layer, capsys):
    notes = []
    mine = layer("mine", data="Digits", model=part("DDOQ", ipc=3, weight_power=0.5))
    expand([*mine, "--model.batch_size=4", *layer("b", model=part("D4M", ipc=2))], notes)
    (note,) = notes
    assert note.endswith(
        "b.yaml makes `model` a D4M; what was given to DDOQ before is not handed on: batch_size, weight_power"
    )
    shipped = []
    expand([f"--config={name}" for name in (DIGITS, DDOQ, D4M)], shipped)
    assert shipped == []
    assert main(["fit", *mine, "--model=D4M"]) == 2
    said = capsys.readouterr().err
    assert "not handed on: ipc, weight_power" in said
    assert "`model` (D4M) needs ipc" in said


def test_parts_within_parts_are_replaced_alone():
    parts = Parts()
    inner = part("MTT", ipc=1, steps=3)
    assert parts.add({"model": part("PDD", ipc=2, base=inner)}, None) == []
    emptied = parts.add({"model": {"init_args": {"base": part("DM", ipc=1)}}}, None)
    assert emptied == [{"model": {"init_args": {"base": None}}}]
    assert parts.said["model"]["init_args"] == {"ipc": 2, "base": part("DM", ipc=1)}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("extends", "[a.yaml]", "`extends` is a key of files; here name each file with --config"),
        ("output", "", "--output needs the name of a file or folder"),
        ("distilled", "", "--distilled needs the name of a file or folder"),
        ("recipe.overrides", "{epochs: 1, epochs: 2}", "--recipe.overrides, line 1: the key 'epochs'"),
        ("students", "[" * 5000, "--students, line 1: nested more than 100 levels deep"),
    ],
)  # fmt: skip
def test_options_that_would_be_ignored_are_refused(key, value, message, capsys):
    with pytest.raises(UserError, match="^" + message.replace("(", r"\(")):
        option(key, value)
    for form in ([f"--{key}={value}"], [f"--{key}", value]):
        assert main(["fit", f"--config={DIGITS}", *form]) == 2
        assert message in capsys.readouterr().err
