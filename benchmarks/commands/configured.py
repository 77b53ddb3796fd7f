"""The LightningCLI behind the commands that need a dataset."""

import functools
import logging
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import lightning as L
import yaml
from jsonargparse import ArgumentError, get_loader, set_loader
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

import baselines  # noqa: F401 - YAML may say `class_path: SRe2L` once the class is known
import ddoq.ddoq  # noqa: F401
from benchmarks.commands.names import COMMANDS
from benchmarks.configuration.image_keys import refuse_image_keys
from benchmarks.configuration.keys import KEYS, annotations
from benchmarks.configuration.layers import expand, named, paired
from benchmarks.configuration.local_code import FLAG, installed_code, take_flag
from benchmarks.configuration.mistakes import explain, find_mistake
from benchmarks.configuration.options import read
from benchmarks.configuration.parts import parse_value
from benchmarks.configuration.shipped import describe_origins
from benchmarks.configuration.trainer import (
    DEFAULTS,
    check_students_precision,
    check_trainer,
    explained,
)
from benchmarks.run.bench import Bench
from benchmarks.run.graph_bench import GraphBench
from benchmarks.run.interruption import current
from benchmarks.run.ranks import end_ranks, extend_timeouts, leave_sigterm
from benchmarks.run.smoke import smoke_config
from benchmarks.students.recipes import check_recipe
from ddoq.bounds import check_finite
from ddoq.console import say
from ddoq.data import ImageDataModule
from ddoq.distillation.ranks import one_device
from ddoq.errors import UserError
from ddoq.graphs.base import GraphData
from ddoq.seeding import check_seed, check_seeds
from ddoq.storage.disk import check_output
from ddoq.storage.keys import precision_name

_AnyBench = TypeVar("_AnyBench", bound=Bench | GraphBench)
_RUNS: dict[str, Callable[[Bench | GraphBench], object]] = {
    "fit": lambda bench: bench.fit(),
    "distill": lambda bench: bench.distill(),
    "evaluate": lambda bench: bench.evaluate(),
    "prior": lambda bench: bench.prior(),
    "teacher": lambda bench: bench.teacher(),
}
_YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same, in C where there is one
_PART = 'Takes "class_path" and "init_args" of any subclass of %(baseclass_name)s.'


class _Parser(LightningArgumentParser):
    """Takes whole names alone, those of parts within parts included: each of these has a parser of this class."""

    def __init__(self, *args: Any, allow_abbrev: bool = False, **settings: Any) -> None:
        super().__init__(*args, allow_abbrev=allow_abbrev, **settings)


class BenchCLI(LightningCLI):
    """Parses a configuration and builds its parts; it runs nothing.

    Args:
        name: The command, for its help.
        arguments: Its options.
        add_options: Adds the options that this command alone has.
        build_trainer: Whether to build the trainer, which asks for the devices that it names.
    """

    def __init__(
        self,
        name: str,
        arguments: list[str],
        add_options: Callable[[LightningArgumentParser], None] | None = None,
        *,
        build_trainer: bool = True,
    ) -> None:
        self.name = name
        self._add_options = add_options
        self._build_trainer = build_trainer
        self.notes: list[str] = []
        self._arguments = arguments
        super().__init__(
            trainer_class=L.Trainer,
            trainer_defaults=DEFAULTS,
            seed_everything_default=KEYS["seed_everything"].default,
            save_config_callback=None,
            auto_configure_optimizers=False,
            # It would give every module the arguments of `model`, a distiller that another one wraps included.
            load_from_checkpoint_support=False,
            parser_class=_Parser,
            parser_kwargs={
                "prog": f"ddoq-bench {name}",
                "description": COMMANDS[name].help,
                "epilog": f"{FLAG} true also takes classes from files that are not installed, such as ./mine.py.",
                "exit_on_error": False,  # so that mistakes can be explained
            },
            run=False,
            args=arguments,
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the options; nothing is built yet.

        Raises:
            UserError: For a mistake in them, with the nearest valid name where a name is wrong.
        """
        defaults = parser.get_defaults().keys()
        options = {name.split(".")[0]: None for name in defaults}
        keys = {**options, "print_config": None, **annotations()}
        if hint := find_mistake(args, keys, certain=True):
            raise UserError(hint)
        try:
            self.config = parser.parse_args(args)
            check_finite("", self.config.as_dict())  # `.nan` and `.inf` are numbers to YAML
            _check_seeds(self.config)
            if self.config["smoke"]:
                changed, self.notes = smoke_config(self.resolved())
                self.config = parser.parse_object(changed)
        except ArgumentError as error:
            if isinstance(cause := _user_error(error), UserError):
                raise cause from None
            raise UserError(explain(str(error), args, keys)) from None
        check_trainer(self.config["trainer"].as_dict())
        recipe = self.config["recipe"]
        check_recipe(recipe["name"], recipe["overrides"])

    def instantiate_trainer(self, **settings: Any) -> L.Trainer:
        """Build the trainer that distils: without a terminal it has no bar, and long work prints lines instead."""
        if not self._build_trainer:
            return None  # type: ignore[return-value]
        callbacks = self._get(self.config_init, "trainer")["callbacks"]  # one may be a bar
        if not sys.stdout.isatty() and not callbacks:
            settings["enable_progress_bar"] = False
        section = self.config["trainer"].as_dict()
        # `trainer.precision` is that of students, who have trainers of their own.
        with explained(section):
            trainer = super().instantiate_trainer(**settings, precision="32-true")
        check_students_precision(section["precision"], trainer.strategy.root_device)
        return trainer

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Leave all keys but ``config`` and ``seed_everything`` to :meth:`add_arguments_to_parser`."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the keys of a configuration, and the command's own options."""
        for name, kind in annotations().items():
            key = KEYS[name]
            if name in ("config", "seed_everything"):  # LightningCLI's own
                continue
            if name == "trainer":
                parser.add_lightning_class_args(kind, name)
                parser.set_defaults({f"{name}.{k}": v for k, v in DEFAULTS.items()})
            elif key.part:
                # Untyped arguments are left to methods and datasets that others write.
                parser.add_subclass_arguments(
                    kind,
                    name,
                    required=key.required,
                    fail_untyped=False,
                    help=f"{key.help} {_PART}",
                )
            else:
                default = kind() if isinstance(kind, type) and is_dataclass(kind) else key.default
                parser.add_argument(f"--{name}", type=kind, default=default, help=key.help)
        if self._add_options:
            self._add_options(parser)

    @property
    def on_graphs(self) -> bool:
        """Whether the dataset holds graphs, or the nodes of one."""
        return isinstance(self.datamodule, GraphData)

    def check_keys(self) -> None:
        """Refuse keys that act on images alone where the dataset holds graphs."""
        if self.on_graphs:
            refuse_image_keys(read(self._arguments), self.datamodule.name, self.datamodule.holds)

    def bench_of_graphs(self) -> GraphBench:
        """Gather the parts that were built from a configuration whose dataset holds graphs.

        Raises:
            UserError: If it says what acts on images alone.
        """
        self.check_keys()
        part = self.config_init.get
        return GraphBench(
            data=self.datamodule,
            distiller=self.model,
            students=part("students"),
            seeds=part("seeds"),
            wandb=part("wandb"),
            output=Path(part("output")),
            distilled=Path(part("distilled")) if part("distilled") else None,
            force=part("force"),
            report=Path(part("report")) if part("report") else None,
            trainer=self.trainer,
            config=self.resolved(),
            evaluation=part("evaluation"),
        )

    def bench(self) -> Bench:
        """Gather the parts that were built from the configuration.

        Raises:
            UserError: If its dataset holds no images.
        """
        if not isinstance(self.datamodule, ImageDataModule):
            raise UserError(
                f"`ddoq-bench {self.name}` works on images, but {self.datamodule.name} holds {self.datamodule.holds}: with those "
                "go distill, fit, evaluate, suite, plan, leaderboard, compare and report."
            )
        part = self.config_init.get
        trainer = self.config["trainer"]
        return Bench(
            data=self.datamodule,
            distiller=self.model,
            prior_source=part("prior"),
            teacher_source=part("teacher"),
            students=part("students"),
            seeds=part("seeds"),
            recipe=part("recipe"),
            wandb=part("wandb"),
            output=Path(part("output")),
            distilled=Path(part("distilled")) if part("distilled") else None,
            force=part("force"),
            report=Path(part("report")) if part("report") else None,
            trainer=self.trainer,
            trainer_settings={
                "accelerator": trainer["accelerator"],
                "precision": precision_name(trainer["precision"]),
                "enable_progress_bar": self.trainer.progress_bar_callback is not None,
                "devices": one_device(self.trainer)["devices"],
            },
            evaluation=part("evaluation"),
            config=self.resolved(),
        )

    def resolved(self) -> dict[str, Any]:
        """Return the whole configuration, defaults included, as values that YAML can hold."""
        # What was parsed is valid: to look at every value once more would double the time.
        text = self.parser.dump(self.config, skip_unset=False, skip_validation=True)
        config: dict[str, Any] = yaml.load(text, Loader=_YAML_LOADER)
        return config


def _check_seeds(config: Mapping[str, Any]) -> None:
    """Refuse seeds before anything is built; those of parts are checked by these."""
    check_seeds("`seeds`", config["seeds"])
    if not isinstance(config["seed_everything"], bool):  # true draws a seed, false sets none
        check_seed("seed_everything", config["seed_everything"])


def _strictly(load: Callable[[str], Any]) -> Callable[[str], Any]:
    """Look at YAML before the parser's own loader reads it: at files that only the parser opens, too."""

    def read_strictly(text: str) -> Any:
        parse_value(text, "the configuration")
        return load(text)

    return read_strictly


set_loader("yaml", _strictly(get_loader("yaml")), (yaml.YAMLError,))


def quiet() -> None:
    """Silence messages of Lightning that tell a user of this suite nothing they could act on."""
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric.utilities.seed").setLevel(logging.WARNING)
    harmless = (
        ".*does not have many workers.*",  # images are decoded once, or are few
        ".*litlogger.*",  # an advertisement
        ".*LeafSpec.* is deprecated.*",  # Lightning calls a helper that torch has renamed
    )
    for pattern in harmless:
        warnings.filterwarnings("ignore", message=pattern)


def configure(
    name: str,
    arguments: list[str],
    add_options: Callable[[LightningArgumentParser], None] | None = None,
    *,
    build_trainer: bool = True,
) -> BenchCLI:
    """Build what a configuration describes, for one command.

    Args:
        name: The command.
        arguments: Its options.
        add_options: Adds the options that this command alone has.
        build_trainer: Whether to build the trainer.

    Returns:
        The parts, and the values of the command's own options in ``config``.

    Raises:
        UserError: For every mistake in the configuration.
    """
    quiet()
    extend_timeouts()
    leave_sigterm()
    given, allow_local = take_flag(arguments)
    notes: list[str] = []
    expanded = expand(given, notes)
    for note in notes:
        print(note, file=sys.stderr)
    with installed_code([content for _, content in read(expanded)], allow_local=allow_local):
        try:
            return BenchCLI(name, expanded, add_options, build_trainer=build_trainer)
        except ValueError as error:  # jsonargparse wraps what a constructor raises
            raise _user_error(error) from None


def run(name: str, arguments: list[str]) -> int:
    """Run a command over what a configuration describes.

    Args:
        name: ``fit``, ``distill``, ``evaluate``, ``prior`` or ``teacher``.
        arguments: Its options.

    Returns:
        The exit status.

    Raises:
        UserError: For every mistake in the configuration.
    """
    cli = configure(name, arguments)
    if cli.on_graphs:
        return _run(cli, arguments, cli.bench_of_graphs, _RUNS[name])
    return run_bench(cli, arguments, _RUNS[name])


def run_bench(cli: BenchCLI, arguments: list[str], work: Callable[[Bench], object]) -> int:
    """Say what a configuration was read from, and work on what it describes; every rank ends with this one.

    Args:
        cli: The parsed configuration.
        arguments: The options of the command.
        work: What to do.

    Returns:
        The exit status, 0.

    Raises:
        UserError: For what the work refuses, or an output that cannot be written.
    """
    return _run(cli, arguments, cli.bench, work)


def _run(
    cli: BenchCLI,
    arguments: list[str],
    gather: Callable[[], _AnyBench],
    work: Callable[[_AnyBench], object],
) -> int:
    pairs = paired(arguments)
    for line in describe_origins([*named(arguments), *pairs]):
        say(line)
    for file in pairs:
        say(f"configuration: {file} is read, too")
    for note in cli.notes:
        say(note)
    bench = gather()
    check_output(bench.output)
    current().hint = lambda: (
        f"everything finished so far is kept in {bench.output}; run the same command to go on"
    )
    with current().child(functools.partial(end_ranks, bench.trainer)):
        try:
            work(bench)
        finally:
            if current().number is not None:
                end_ranks(bench.trainer, kill=True)
    return 0


def _user_error(error: Exception) -> Exception:
    """Find our own error in what the parser raised around it; else return that as it is."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, UserError):
            return inner
        inner = inner.__cause__ or inner.__context__
    return error
