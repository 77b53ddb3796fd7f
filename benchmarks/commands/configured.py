"""The LightningCLI behind the commands that need a dataset."""

import logging
import warnings
from argparse import ArgumentError
from dataclasses import fields
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

import baselines  # noqa: F401 - YAML may say `class_path: SRe2L` once the class is known
import ddoq.ddoq  # noqa: F401
from benchmarks.commands.names import COMMANDS
from benchmarks.commands.plan import PlanOptions, add_plan_arguments, plan_bench
from benchmarks.configuration.layers import expand
from benchmarks.configuration.mistakes import explain
from benchmarks.run.bench import Bench, RecipeChoice
from benchmarks.run.ranks import EvaluationOptions, be_patient, end_with_launcher, one_device
from benchmarks.students.student import Student
from benchmarks.tracking.loggers import WandbOptions
from ddoq.data import ImageDataModule
from ddoq.distillation.distiller import Distiller
from ddoq.errors import UserError
from ddoq.priors import PriorSource
from ddoq.teachers import TeacherSource

_RUNS = ("fit", "distill", "evaluate", "prior", "teacher", "plan")


class BenchTrainer(L.Trainer):
    """Lightning's trainer with a method for each command, since LightningCLI looks commands up on it.

    The methods of the same names on :class:`BenchCLI` are what runs.
    """

    def distill(self) -> None:
        """Run by BenchCLI.distill."""

    def evaluate(self) -> None:
        """Run by BenchCLI.evaluate."""

    def prior(self) -> None:
        """Run by BenchCLI.prior."""

    def teacher(self) -> None:
        """Run by BenchCLI.teacher."""

    def plan(self) -> None:
        """Run by BenchCLI.plan."""


class BenchCLI(LightningCLI):
    """Parses a configuration, builds its parts and runs one command over them."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """List the commands."""
        return {name: set() for name in _RUNS}

    def _prepare_subcommand_parser(
        self, klass: type, subcommand: str, **kwargs: Any
    ) -> LightningArgumentParser:
        # LightningCLI would add the arguments of the trainer's method in a group of the command's name, but
        # `prior` and `teacher` are keys of the configuration, and of arguments of its own `plan` alone has any.
        parser = self.init_parser(**kwargs)
        self._add_arguments(parser)
        if subcommand == "plan":
            add_plan_arguments(parser)
        self._subcommand_method_arguments[subcommand] = []
        return parser

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """Let mistakes raise, so that they can be explained."""
        kwargs["exit_on_error"] = False
        return super().init_parser(**kwargs)

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add trainer, data and model; ``prior``, ``teacher`` and imported sets work without a model."""
        parser.add_lightning_class_args(self.trainer_class, "trainer")
        parser.set_defaults({f"trainer.{k}": v for k, v in self.trainer_defaults.items()})
        parser.add_lightning_class_args(Distiller, "model", subclass_mode=True, required=False)
        parser.add_lightning_class_args(ImageDataModule, "data", subclass_mode=True)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what the suite needs beyond a model and data."""
        parser.add_subclass_arguments(PriorSource, "prior", required=False)
        parser.add_subclass_arguments(TeacherSource, "teacher", required=False)
        parser.add_argument(
            "--students", type=list[Student], default=[], help="Who learns from the set."
        )
        parser.add_argument(
            "--seeds", type=list[int], default=[0], help="One run a student and seed."
        )
        parser.add_argument(
            "--recipe", type=RecipeChoice, default=RecipeChoice(), help="How they learn."
        )
        parser.add_argument(
            "--evaluation",
            type=EvaluationOptions,
            default=EvaluationOptions(),
            help="Whether several ranks train students apart or together.",
        )
        parser.add_argument(
            "--wandb", type=WandbOptions, default=WandbOptions(), help="W&B logging."
        )
        parser.add_argument(
            "--output", type=str, default="runs", help="Folder of caches and results."
        )
        parser.add_argument(
            "--distilled", type=str | None, default=None, help="Folder of a set to evaluate."
        )
        parser.add_argument("--force", type=bool, default=False, help="Train students again.")
        parser.add_argument(
            "--report",
            type=str | None,
            default=None,
            help="File that shall list what this run made.",
        )
        parser.add_argument(
            "--extends",
            type=list[str],
            default=[],
            help="Files read before this one (in YAML only).",
        )

    def bench(self) -> Bench:
        """Gather the parts that were built from the configuration."""

        def part(key: str) -> Any:
            return self._get(self.config_init, key)

        trainer = self._get(self.config, "trainer").as_dict()
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
                **{k: trainer[k] for k in ("accelerator", "precision", "enable_progress_bar")},
                **one_device(self.trainer),
            },
            evaluation=part("evaluation"),
            config=self._resolved(),
        )

    def _resolved(self) -> dict[str, Any]:
        self._dump_config()
        config: dict[str, Any] = self.config_dump
        return config

    def fit(self, **_: Any) -> None:
        """Distil, then train and test every student."""
        self.bench().fit()

    def distill(self, **_: Any) -> None:
        """Distil."""
        self.bench().distill()

    def evaluate(self, **_: Any) -> None:
        """Train and test every student."""
        self.bench().evaluate()

    def prior(self, **_: Any) -> None:
        """Train or reuse the prior."""
        self.bench().obtain_prior(required=True)

    def teacher(self, **_: Any) -> None:
        """Train or reuse the teacher."""
        self.bench().obtain_teacher(required=True)

    def plan(self, **_: Any) -> None:
        """Say what a run will take."""
        options = {item.name: self._get(self.config, item.name) for item in fields(PlanOptions)}
        print(plan_bench(self.bench(), PlanOptions(**options)))


def quiet() -> None:
    """Silence messages of Lightning that tell a user of this suite nothing they could act on."""
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric.utilities.seed").setLevel(logging.WARNING)
    harmless = (
        ".*does not have many workers.*",  # images are decoded once, or are few
        ".*litlogger.*",  # an advertisement
        ".*LightningCLI's args parameter.*",
        ".*LeafSpec.* is deprecated.*",  # Lightning calls a helper that torch has renamed
    )
    for pattern in harmless:
        warnings.filterwarnings("ignore", message=pattern)


def run(arguments: list[str]) -> int:
    """Run one command of :data:`benchmarks.commands.names.COMMANDS`.

    Args:
        arguments: The command and its options.

    Returns:
        The exit status.

    Raises:
        UserError: For every mistake in the configuration.
    """
    quiet()
    be_patient()
    end_with_launcher()
    expanded = expand(arguments)
    try:
        BenchCLI(
            model_class=Distiller,
            datamodule_class=ImageDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            trainer_class=BenchTrainer,
            trainer_defaults={
                "logger": False,
                "enable_checkpointing": False,
                "enable_model_summary": False,
                # Methods that take gradients with respect to images fail under inference mode.
                "inference_mode": False,
                "devices": 1,
            },
            seed_everything_default=0,
            save_config_callback=None,
            auto_configure_optimizers=False,
            parser_kwargs={name: {"description": COMMANDS[name]} for name in _RUNS},
            args=expanded,
        )
    except (ArgumentError, ValueError) as error:
        raise _user_error(error) from None
    return 0


def _user_error(error: Exception) -> Exception:
    """Find the user's mistake in what the parser raised, which may wrap our own error; else return it as is."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, UserError):
            return inner
        inner = inner.__cause__ or inner.__context__
    return UserError(explain(str(error))) if isinstance(error, ArgumentError) else error
