"""The command ``ddoq-bench theory``: its options, and the study of a configuration."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from benchmarks.commands.configured import configure, run_bench
from benchmarks.run.bench import Bench
from benchmarks.theory.options import BUDGETS, TheoryOptions
from benchmarks.theory.report import write_report
from benchmarks.theory.study import TheoryStudy
from ddoq.console import say

_HELP = {
    "ipc": f"Numbers of centroids a class, as a list; those of {list(BUDGETS)} that fit where omitted.",
    "quantizers": "Methods of quantisation.",
    "decode": "How centroids become images: vae, diffusion; [] measures in the latent space alone.",
    "checkpoints": "Training steps on real data at which gradients are compared.",
    "points": "Latents of a class and split that are measured, at most.",
    "arch": "Student on images; one without batch norm.",
    "markdown": "File for the report, figures beside it; beside the record where omitted.",
}


def add_theory_arguments(parser: Any) -> None:
    """Add the options of the command to its parser."""
    defaults = TheoryOptions()
    for item in fields(TheoryOptions):
        parser.add_argument(
            f"--{item.name}",
            type=item.type,
            default=getattr(defaults, item.name),
            help=_HELP[item.name],
        )


def run(name: str, arguments: list[str]) -> int:
    """Run ``ddoq-bench theory``.

    Args:
        name: The command.
        arguments: Its options.

    Returns:
        0.

    Raises:
        UserError: For every mistake in the configuration or the options.
    """
    cli = configure(name, arguments, add_theory_arguments)
    options = TheoryOptions(**{item.name: cli.config[item.name] for item in fields(TheoryOptions)})
    return run_bench(cli, arguments, lambda bench: _measure(bench, options))


def _measure(bench: Bench, options: TheoryOptions) -> None:
    study = TheoryStudy(bench, options)
    record = study.run()
    output = Path(options.markdown) if options.markdown else study.report
    write_report(record, output)
    say(f"record: {study.record}")
    say(f"report: {output}")
