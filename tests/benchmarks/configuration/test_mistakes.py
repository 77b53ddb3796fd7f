"""Every wrong name gets the nearest valid one, in files and in options; the parser that refuses them is the real one."""

import dataclasses
import json
from typing import Any, get_args

import pytest
import yaml

from benchmarks.commands.configured import BenchCLI
from benchmarks.configuration.keys import KEYS, annotations
from benchmarks.configuration.layers import expand
from benchmarks.configuration.mistakes import concrete_subclasses, explain, find_class, parameters
from ddoq.ddoq import DDOQ
from ddoq.distillation.distiller import Distiller
from ddoq.errors import UserError
from ddoq.latents.quantization import LatentQuantization
from ddoq.priors import PriorSource, TrainedPrior

BASE = {"data": {"class_path": "Digits"}, "model": {"class_path": "DDOQ", "init_args": {"ipc": 2}}}


def refused(arguments: list[str], file: Any = None) -> str:
    """Return what is said of arguments, behind a configuration that is right."""
    with pytest.raises(UserError) as error:
        BenchCLI("fit", expand(["--config", str(file), *arguments]))
    return str(error.value)


@pytest.fixture
def write(tmp_path):
    """Write a configuration that is right but for the given keys."""

    def write(**changes):
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump({**BASE, **changes}))
        return path

    return write


def records() -> dict[str, list[str]]:
    """List the fields of every key that holds a dataclass, or a list of one."""
    return {
        name: [field.name for field in dataclasses.fields(kind)]
        for name, annotation in annotations().items()
        for kind in (annotation, *get_args(annotation))
        if dataclasses.is_dataclass(kind)
    }


FIELDS = [(name, field) for name, fields in records().items() for field in fields]
TYPOS = {"a letter twice": lambda name: name[0] + name, "a letter lost": lambda name: name[:-1]}


def test_the_keys_with_fields_are_these():
    assert set(records()) == {"students", "recipe", "evaluation", "wandb"}
    assert all(records().values())


@pytest.mark.parametrize("typo", TYPOS)
@pytest.mark.parametrize("name", KEYS)
def test_a_wrong_key_gets_the_nearest(name, typo, write):
    wrong = TYPOS[typo](name)
    expected = f"Did you mean '{name}'? Valid: config, data, "
    file = write()
    assert refused([f"--{wrong}", "1"], file).startswith(f"Unknown key {wrong!r}. {expected}")
    file = write(**{wrong: 1})
    assert refused([], file).startswith(f"Unknown key {wrong!r} in {file}. {expected}")


@pytest.mark.parametrize("typo", TYPOS)
@pytest.mark.parametrize(("name", "field"), FIELDS)
def test_a_wrong_field_gets_the_nearest(name, field, typo, write):
    wrong = TYPOS[typo](field)
    expected = f"Did you mean {field!r}? Valid: {', '.join(sorted(records()[name]))}."
    file = write(students=[{"arch": "vit"}])
    assert refused([f"--{name}.{wrong}=1"], file) == f"Unknown key '{name}.{wrong}'. {expected}"
    given = [{"arch": "vit", wrong: 1}] if name == "students" else {wrong: 1}
    as_option = refused([f"--{name}={json.dumps(given)}"], file)
    assert as_option == f"Unknown key '{name}.{wrong}'. {expected}"
    file = write(**{name: given})
    assert refused([], file) == f"Unknown key '{name}.{wrong}' in {file}. {expected}"


PARTS = {
    "model": ("DDOQ", "ipc"),
    "data": ("Digits", "image_size"),
    "prior": ("TrainedPrior", "compile"),
    "teacher": ("TrainedTeacher", "arch"),
}


def test_the_parts_are_these():
    assert set(PARTS) == {name for name, key in KEYS.items() if key.part}


@pytest.mark.parametrize("name", PARTS)
def test_a_wrong_class_or_argument_of_a_part_gets_the_nearest(name, write):
    kind, argument = PARTS[name]
    wrong = {"class_path": f"{kind}x"}
    file = write(**{name: wrong})
    expected = f"Did you mean '{kind}'?"
    assert f"Unknown class '{kind}x' for `{name}` in {file}. {expected}" in refused([], file)
    assert expected in refused([f"--{name}={kind}x"], write())
    given = {argument: 2, f"{argument}x": 1}
    expected = f"of {kind}. Did you mean '{argument}'?"
    assert expected in refused([f"--{name}={kind}", f"--{name}.{argument}x=1"], write())
    assert expected in refused([f"--{name}={kind}", f"--{name}.init_args.{argument}x=1"], write())
    file = write(**{name: {"class_path": kind, "init_args": given}})
    assert f"Unknown key '{argument}x' of {kind} in {file}. Did you mean" in refused([], file)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model.quantizer.methd=lloyd"], "Unknown key 'quantizer.methd' of DDOQ. Did you mean 'method'?"),
        (["--model.init_args.sampling.strngth=1"], "Unknown key 'sampling.strngth' of DDOQ. Did you mean 'strength'?"),
        (["--model", "D4M", "--model.weight_power=1"], "Unknown key 'weight_power' of D4M."),
        (["--model", "ddoq.ddoq.DDOK"], "Unknown class 'ddoq.ddoq.DDOK' for `model`. Did you mean 'DDOQ'?"),
        (["--model", "../.."], "Unknown class '../..' for `model`."),
        (["--model", "TrainedPrior"], "Unknown class 'TrainedPrior' for `model`. "),
        (["--model", "ddoq.priors.TrainedPrior"], "Unknown class 'ddoq.priors.TrainedPrior' for `model`. "),
        (["--trainer.max_epoks=1"], "Unknown key 'max_epoks' of Trainer. Did you mean 'max_epochs'?"),
        (["--recipe", "hard"], "'recipe' must hold keys (name, overrides), not 'hard'."),
        (["--model.quantizer=lloyd"], "'quantizer' of DDOQ must hold keys (method, "),
        (["configs/quickstart.yaml"], "'configs/quickstart.yaml' is no option. Did you mean `--config configs/q"),
        (["quickstart"], "'quickstart' is no option."),
        (["--print_confg"], "Unknown key 'print_confg'. Did you mean 'print_config'?"),
    ],
)  # fmt: skip
def test_further_mistakes_are_explained(arguments, message, write):
    assert refused(arguments, write()).startswith(message)


def test_a_class_of_an_earlier_layer_takes_the_arguments_of_the_next(write, tmp_path):
    later = tmp_path / "later.yaml"
    later.write_text("model: {init_args: {icp: 3}}")
    message = refused(["--config", str(later)], write())
    assert message.startswith(f"Unknown key 'icp' of DDOQ in {later}. Did you mean 'ipc'?")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model.ipc=many"], "`ipc` of DDOQ must be a whole number, not 'many'."),
        (["--model.init_args.ipc", "null"], "`ipc` of DDOQ must be a whole number, not null."),
        (["--model.quantizer.restarts=[1]"], "`quantizer.restarts` of DDOQ must be a whole number, not [1]."),
        (["--prior=TrainedPrior", "--prior.vae.channels=3"], "`vae.channels` of TrainedPrior must be a list, each item a whole number, not 3."),
        (["--wandb.mode=x"], "`wandb.mode` must be 'offline' or 'online' or 'disabled', not 'x'."),
        (["--trainer.max_epochs=x"], "`max_epochs` of Trainer must be a whole number or null, not 'x'."),
        (["--prior=TrainedPrior", "--prior.dit=null"], "`dit` of TrainedPrior must hold keys and values, not null"),
        (["--model=3"], "`model` must name a class, or hold `class_path` and `init_args`, not 3."),
        (["--model=D4M"], "`model` (D4M) needs ipc: give --model.init_args.ipc, or write it into a file."),
        (["--trainer=3"], "`trainer` must hold keys and values, not 3."),
        (["--recipe.name=hrad"], "There is no recipe 'hrad'. Did you mean 'hard'?"),
        (["--recipe.name=own", "--recipe.overrides={epohcs: 1}"], "recipe.overrides: unknown key 'epohcs'. Did you mean 'epochs'?"),
    ],
)  # fmt: skip
def test_values_of_a_wrong_type_are_told_in_plain_words(arguments, message, write):
    assert refused(arguments, write()).startswith(message)


WRONG = [
    (name, value)
    for name, key in KEYS.items()
    for value in (None, "", {"a": 1})
    if name != "config"
    if value is not None or not (key.part or name in ("distilled", "report"))
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_wrong_form_of_any_key_is_told_by_its_name(name, value, write):
    path = write(**{name: value})
    if KEYS[name].part:
        path.write_text(yaml.safe_dump({name: value}))
    message = refused([], path)
    assert name in message.lower()
    assert "config.yaml" in message
    assert "Parser key" not in message
    assert "\n" not in message


def test_names_within_parts_are_not_abbreviated(write):
    file = write(prior={"class_path": "TrainedPrior", "init_args": {"vae": {"step": 3}}})
    assert refused([], file).startswith("Unknown key 'vae.step' of TrainedPrior in")
    assert refused(["--model.quantizer.meth=clvq"], write()).startswith(
        "Unknown key 'quantizer.meth'"
    )
    trainer = {"callbacks": [{"class_path": "TQDMProgressBar", "init_args": {"refresh": 2}}]}
    assert "refresh" in refused([], write(trainer=trainer))


def test_arguments_that_no_class_takes_are_refused(write):
    model = {"class_path": "DDOQ", "init_args": {"ipc": 2}, "dict_kwargs": {"foo": 3}}
    assert refused([], write(model=model)).startswith("Unknown key 'foo' of DDOQ in")


def test_messages_of_another_form_are_passed_on():
    assert explain("Something else.", [], {}) == "Something else."


def test_only_classes_that_can_be_made_are_offered():
    known = set(concrete_subclasses(Distiller))
    assert DDOQ in known
    assert LatentQuantization not in known
    assert Distiller not in known
    assert TrainedPrior in concrete_subclasses(TrainedPrior)


def test_classes_are_found_by_either_name():
    assert find_class("DDOQ", Distiller) is DDOQ
    assert find_class("ddoq.ddoq.DDOQ", Distiller) is DDOQ
    assert find_class("ddoq.DDOQ", Distiller) is DDOQ
    assert find_class("DDOQ", PriorSource) is None
    assert find_class("ddoq.nowhere.DDOQ", Distiller) is None
    assert find_class("ddoq.ddoq.cell_weights", Distiller) is None


def test_parameters_are_those_of_the_constructor():
    assert list(parameters(DDOQ))[:3] == ["ipc", "seed", "quantizer"]
    assert parameters(DDOQ)["ipc"] is int
    assert parameters(object) == {}


def test_a_whole_printed_configuration_is_not_blamed_for_what_is_right(write):
    """`logger` takes classes and `false`: the mistake is elsewhere."""
    message = refused([], write(trainer={"logger": False}, force="maybe"))
    assert message.startswith("`force` in ")


def test_tables_of_tables_are_not_blamed_for_what_is_right(write):
    """`lr` of DM takes a number, a table, or a table of tables."""
    model = {"class_path": "DM", "init_args": {"ipc": 2, "lr": {1: 1.0, 10: {2: 0.5}}}}
    assert refused([], write(model=model, force="maybe")).startswith("`force` in ")
    model["init_args"]["lr"] = {1: {2: "fast"}}
    assert "'fast'" in refused([], write(model=model))


@pytest.mark.parametrize(
    "option", ["--teacher.channels_last", "--prior.dit.schedule", "--model.ipc"]
)
def test_null_is_refused_where_it_is_no_value(option, write):
    parts = {"teacher": "TrainedTeacher", "prior": "TrainedPrior"}
    name = option.rpartition(".")[2]
    message = refused([f"{option}=null"], write(**parts))
    assert name in message
    assert message.endswith("not null.")


@pytest.mark.parametrize("more", [[], ["--"], ["--force", "true"]])
def test_an_option_without_its_value_is_named(more, write):
    option = "--teacher.init_args.stem"
    assert refused([option, *more], write(teacher="TrainedTeacher")) == f"{option} needs a value."
