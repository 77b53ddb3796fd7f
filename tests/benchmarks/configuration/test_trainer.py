"""The section ``trainer``: every argument of Lightning's is known to act or refused, and mistakes name their key."""

import inspect

import lightning as L
import pytest
import torch

from benchmarks.cli import main
from benchmarks.configuration.trainer import (
    ACTING,
    DEFAULTS,
    INSTEAD,
    check_students_precision,
    check_trainer,
    explained,
)
from ddoq.errors import UserError

PARAMETERS = {
    name: parameter.default
    for name, parameter in inspect.signature(L.Trainer).parameters.items()
    if name != "self"
}
# A value of each argument that its type allows and that is not its default.
OTHERS = {
    **dict.fromkeys(("limit_train_batches", "limit_val_batches", "limit_test_batches"), 3),
    **dict.fromkeys(
        ("max_epochs", "min_epochs", "max_steps", "min_steps", "limit_predict_batches"), 2
    ),
    **dict.fromkeys(("val_check_interval", "check_val_every_n_epoch", "num_sanity_val_steps"), 4),
    **dict.fromkeys(("log_every_n_steps", "accumulate_grad_batches", "gradient_clip_val"), 2),
    **dict.fromkeys(
        ("logger", "fast_dev_run", "enable_checkpointing", "enable_model_summary"), True
    ),
    **dict.fromkeys(("inference_mode", "detect_anomaly", "barebones", "sync_batchnorm"), True),
    **dict.fromkeys(("use_distributed_sampler", "enable_autolog_hparams"), False),
    "max_time": "00:01:00:00",
    "overfit_batches": 0.5,
    "gradient_clip_algorithm": "norm",
    "reload_dataloaders_every_n_epochs": 1,
    "default_root_dir": "somewhere",
    "model_registry": "mine",
}
PARTS = ["--data=Digits", "--model=RandomSelection", "--model.ipc=1"]


def section(**changes):
    return {**PARAMETERS, **DEFAULTS, **changes}


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_argument_is_classified(name):
    known = (name in ACTING) + (name in INSTEAD)
    assert known == 1, (
        f"lightning.Trainer takes {name!r}: say in benchmarks/configuration/trainer.py whether it acts (ACTING) or "
        "what to use in its place (INSTEAD)"
    )


def test_nothing_is_classified_that_is_no_argument():
    assert set(PARAMETERS) >= ACTING | INSTEAD.keys() | DEFAULTS.keys()
    assert OTHERS.keys() == INSTEAD.keys()


def test_defaults_are_accepted():
    check_trainer(section())


@pytest.mark.parametrize("name", INSTEAD)
def test_what_cannot_act_is_refused(name):
    with pytest.raises(
        UserError, match=rf"trainer\.{name} has no effect here: .+ Leave the key out"
    ):
        check_trainer(section(**{name: OTHERS[name]}))


def test_an_argument_of_a_newer_lightning_is_refused_until_it_is_classified():
    with pytest.raises(UserError, match=r"trainer\.turbo has no effect here: this version"):
        check_trainer(section(turbo=True))


@pytest.mark.parametrize(
    "changes",
    [
        {"accelerator": "cpu", "devices": 2, "strategy": "ddp", "num_nodes": 2},
        *({"devices": value} for value in ("auto", "3", "-1", -1, "0,1", "1,", [0], [1, 3])),
        {"strategy": "ddp_find_unused_parameters_true", "precision": "bf16-mixed"},
        {"callbacks": [{"class_path": "TQDMProgressBar"}], "enable_progress_bar": True},
        {"deterministic": "warn", "benchmark": True, "profiler": "simple", "plugins": []},
        {"strategy": {"class_path": "DDPStrategy"}},
    ],
)
def test_what_acts_is_accepted(changes):
    check_trainer(section(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"accelerator": "foo"}, "There is no trainer.accelerator 'foo'. .*cpu"),
        ({"accelerator": "gpuu"}, "Did you mean 'gpu'"),
        ({"strategy": "dpp"}, "There is no trainer.strategy 'dpp'. Did you mean 'ddp'"),
        ({"num_nodes": 0}, "trainer.num_nodes must be at least 1, not 0"),
        *(
            ({"devices": value}, "trainer.devices must be how many")
            for value in (0, -2, "0", "abc", "", [], "1,a", [-1], "0,-1")
        ),
    ],
)
def test_values_that_no_trainer_takes(changes, message):
    with pytest.raises(UserError, match=message):
        check_trainer(section(**changes))


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about a machine without a GPU")
@pytest.mark.parametrize("name", ["gpu", "cuda", "tpu"])
def test_an_accelerator_that_is_not_there(name):
    with pytest.raises(UserError, match=f"trainer.accelerator is {name}, but there is none"):
        check_trainer(section(accelerator=name))


def test_what_lightning_refuses_names_the_keys():
    changes = {"accelerator": "cpu", "devices": -1, "enable_progress_bar": False}
    with (
        pytest.raises(UserError, match=r"values of trainer\.devices: .* should be an int > 0"),
        explained(section(**changes)),
    ):
        L.Trainer(**changes)
    with (
        pytest.raises(UserError, match=r"trainer\.accelerator, trainer\.devices.*: no words"),
        explained(section(**changes)),
    ):
        raise ValueError("no\n words")


def test_precisions_of_students_on_cpus_and_gpus():
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    for value in (None, 32, "64", "bf16", "bf16-true"):
        check_students_precision(value, cpu)
    for value in ("16-true", "16", 16, "16-mixed"):
        check_students_precision(value, gpu)
        with pytest.raises(UserError, match=rf"trainer\.precision {value} .* on CPUs: use one of"):
            check_students_precision(value, cpu)
    with pytest.raises(UserError, match=r"trainer\.precision transformer-engine .* here"):
        check_students_precision("transformer-engine", gpu)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("accelerator=foo", "There is no trainer.accelerator 'foo'"),
        ("devices=abc", "trainer.devices must be"),
        ("devices=0", "trainer.devices must be"),
        ("devices=-1 --trainer.accelerator=cpu", "trainer.devices"),
        ("strategy=fast", "There is no trainer.strategy 'fast'"),
        ("strategy=deepspeed --trainer.accelerator=cpu", "trainer.strategy"),
        ("num_nodes=0", "trainer.num_nodes"),
        ("max_epochs=-5", "trainer.max_epochs has no effect here: recipe.overrides.epochs"),
        ("max_time=x", "trainer.max_time"),
        ("inference_mode=true", "trainer.inference_mode"),
        ("fast_dev_run=true", "--smoke true"),
    ],
)
def test_mistakes_on_the_command_line_are_one_line(option, message, capsys, tmp_path):
    options = f"--trainer.{option}".split()
    assert main(["distill", *PARTS, f"--output={tmp_path / 'runs'}", *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "runs").exists()
