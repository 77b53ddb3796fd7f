"""From a configuration to the parts of a run: classes inside classes, seeds, and what does not run."""

import json
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass

import lightning as L
import pytest
import torch
import yaml

from benchmarks.cli import main
from benchmarks.commands.configured import configure
from ddoq.distillation.distiller import Distiller
from ddoq.errors import UserError


@dataclass(frozen=True)
class Buffer:
    """Records a method may be given."""

    size: int = 4
    sharp: bool = False


class Experts(ABC):
    """A kind of part that a method needs."""

    @abstractmethod
    def load(self) -> list[int]:
        """Return what was recorded."""


class RecordedExperts(Experts):
    """One of that kind, with a part of its own."""

    def __init__(self, count: int, buffer: Buffer = Buffer()) -> None:
        self.count = count
        self.buffer = buffer

    def load(self) -> list[int]:
        return [self.buffer.size] * self.count


class ExpertMethod(Distiller):
    """A method with a part of its own."""

    method = "expert-test"

    def __init__(self, ipc: int, seed: int = 0, experts: Experts | None = None) -> None:
        super().__init__(ipc, seed)
        self.experts = experts

    def work_items(self, data):
        return []

    def distill(self, item):
        raise NotImplementedError


class WrapperMethod(ExpertMethod):
    """A method that wraps another."""

    method = "wrapper-test"

    def __init__(
        self, ipc: int, base: Distiller, more: list[Experts] | None = None, seed: int = 0
    ) -> None:
        super().__init__(ipc, seed)
        self.base = base
        self.more = more or []


def options(model):
    return ["--data=Digits", f"--model={json.dumps(model)}"]


NESTED = {
    "class_path": "WrapperMethod",
    "init_args": {
        "ipc": 2,
        "base": {
            "class_path": "ExpertMethod",
            "init_args": {
                "ipc": 3,
                "experts": {
                    "class_path": "RecordedExperts",
                    "init_args": {"count": 2, "buffer": {"size": 7}},
                },
            },
        },
        "more": [{"class_path": "RecordedExperts", "init_args": {"count": 1}}],
    },
}


@pytest.mark.parametrize("form", ["file", "option"])
def test_classes_inside_classes_go_by_their_short_names(form, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"data": {"class_path": "Digits"}, "model": NESTED}))
    cli = configure("fit", ["--config", str(path)] if form == "file" else options(NESTED))
    method = cli.bench().distiller
    assert isinstance(method, WrapperMethod)
    assert isinstance(method.base, ExpertMethod)
    assert (method.ipc, method.base.ipc) == (2, 3)
    assert method.base.experts.load() == [7, 7]
    assert [part.load() for part in method.more] == [[4]]
    stored = cli.resolved()["model"]["init_args"]["base"]["init_args"]["experts"]
    assert stored["init_args"] == {"count": 2, "buffer": {"size": 7, "sharp": False}}
    changed = configure("fit", [*options(NESTED), "--model.base.init_args.experts.count=1"])
    assert changed.model.base.experts.load() == [7]


def change(path, value):
    """Return NESTED with another value at a path."""
    model = json.loads(json.dumps(NESTED))
    *parents, last = path.split(".")
    place = model
    for name in parents:
        place = place[int(name) if name.isdigit() else name]
    place[last] = value
    return model


EXPERTS = "init_args.base.init_args.experts"
MISTAKES = {
    "class": (
        change(f"{EXPERTS}.class_path", "RecordedExpert"),
        "Unknown class 'RecordedExpert' for `experts` of ExpertMethod. Did you mean 'RecordedExperts'?",
    ),
    "class of another kind": (
        change(f"{EXPERTS}.class_path", "DDOQ"),
        "Unknown class 'DDOQ' for `experts` of ExpertMethod. Valid: RecordedExperts.",
    ),
    "argument": (
        change(f"{EXPERTS}.init_args.cuont", 1),
        "Unknown key 'cuont' of RecordedExperts. Did you mean 'count'?",
    ),
    "field of an argument": (
        change(f"{EXPERTS}.init_args.buffer", {"sise": 1}),
        "Unknown key 'buffer.sise' of RecordedExperts. Did you mean 'size'?",
    ),
    "wrapped class": (
        change("init_args.base.class_path", "ExpertMetod"),
        "Unknown class 'ExpertMetod' for `base` of WrapperMethod. Did you mean 'ExpertMethod'?",
    ),
    "argument of a wrapped class": (
        change("init_args.base.init_args.icp", 1),
        "Unknown key 'icp' of ExpertMethod. Did you mean 'ipc'?",
    ),
    "class in a list": (
        change("init_args.more.0.class_path", "DDOQ"),
        "Unknown class 'DDOQ' for `more` of WrapperMethod. Valid: RecordedExperts.",
    ),
    "argument in a list": (
        change("init_args.more.0.init_args.cuont", 1),
        "Unknown key 'cuont' of RecordedExperts. Did you mean 'count'?",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_inside_get_the_nearest_name(mistake):
    model, message = MISTAKES[mistake]
    with pytest.raises(UserError) as error:
        configure("fit", options(model))
    assert str(error.value).startswith(message)


def test_every_module_has_settings_of_its_own():
    method = configure("fit", options(NESTED)).model
    assert method.base.settings()["ipc"] == 3
    assert method.settings()["ipc"] == 2


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--seeds=[0,0,0]", "`seeds`: the seed 0 is listed twice"),
        ("--seeds=[0,-1]", "`seeds` must be a list of integers from 0 to 4294967295"),
        ("--seeds=[]", "`seeds` must list at least one"),
        ("--seed_everything=-1", "seed_everything must be an integer from 0 to 4294967295"),
        ("--seed_everything=4294967296", "seed_everything must be an integer"),
        ("--model.seed=-1", r"model\.seed must be an integer from 0"),
        ("--prior.seed=-1", r"prior\.seed must be an integer from 0"),
        ("--teacher.seed=99999999999", r"teacher\.seed must be an integer from 0"),
    ],
)
def test_seeds_are_refused_before_anything_runs(option, message):
    parts = ["--data=Digits", "--model=RandomSelection", "--model.ipc=1"]
    parts += ["--prior=TrainedPrior", "--teacher=TrainedTeacher"]
    with pytest.raises(UserError, match=message):
        configure("fit", [*parts, option])


def test_building_runs_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cli = configure("fit", options({"class_path": "DDOQ", "init_args": {"ipc": 2}}))
    assert type(cli.trainer) is L.Trainer
    assert cli.bench().trainer is cli.trainer
    assert list(tmp_path.iterdir()) == []


def test_seed_everything_seeds_before_anything_is_built():
    drawn = []
    for seed in (1, 2, 1):
        configure("fit", ["--data=Digits", f"--seed_everything={seed}"])
        drawn.append(torch.rand(4))
    assert torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[1])


def test_our_own_errors_come_out_of_constructors_as_they_are():
    model = {"class_path": "DDOQ", "init_args": {"ipc": 2, "sampling": {"strength": 2}}}
    with pytest.raises(UserError, match=r"sampling\.strength must be in \(0, 1\], not 2"):
        configure("fit", options(model))


def test_options_of_one_command_are_offered_by_it_alone(capsys):
    assert main(["plan", "--data=Digits", "--clases=5"]) == 2
    assert "Did you mean 'classes'?" in capsys.readouterr().err
    assert main(["fit", "--data=Digits", "--clases=5"]) == 2
    assert "'classes'" not in capsys.readouterr().err


def test_print_config_shows_the_values_of_every_layer(tmp_path, capsys):
    path = tmp_path / "config.yaml"
    path.write_text("data: {class_path: Digits}\nseeds: [1]")
    with pytest.raises(SystemExit) as end:
        main(["fit", "--config", str(path), "--seeds=[2]", "--print_config"])
    assert end.value.code in (0, None)
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["seeds"] == [2]
    assert printed["trainer"]["inference_mode"] is False


def bars(tmp_path, *arguments):
    data = ["--data=Digits", f"--output={tmp_path}", "--trainer.accelerator=cpu"]
    cli = configure("prior", [*data, *arguments])
    shown = cli.trainer.progress_bar_callback is not None
    assert cli.bench().trainer_settings["enable_progress_bar"] == shown
    return shown


def test_no_bar_without_a_terminal(tmp_path, capsys):
    assert not bars(tmp_path)
    assert not bars(tmp_path, "--trainer.enable_progress_bar=true")


@pytest.mark.parametrize("wanted", [True, False])
def test_on_a_terminal_as_the_user_wants_it(tmp_path, capsys, monkeypatch, wanted):
    monkeypatch.setattr(type(sys.stdout), "isatty", lambda self: True)
    assert bars(tmp_path)
    assert bars(tmp_path, f"--trainer.enable_progress_bar={str(wanted).lower()}") == wanted


def test_a_bar_that_is_named_stays(tmp_path, capsys):
    assert bars(tmp_path, "--trainer.callbacks+=TQDMProgressBar")
