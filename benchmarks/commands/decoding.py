"""The command ``ddoq-bench decoding``: how good a prior is to decode with, over strength and guidance."""

from dataclasses import MISSING, fields
from typing import Any

from benchmarks.commands.configured import configure, run_bench
from benchmarks.decoding.options import DecodingOptions
from benchmarks.decoding.running import measure_decoding

_HELP = {
    "strengths": "Strengths at which centroids are decoded, e.g. '[0.5, 0.7]', each in (0, 1].",
    "guidances": "Guidance scales, each at least 1; every strength is tried with every one.",
    "ipc": "Centroids per class; the method's own number where omitted.",
    "per_class": "Samples from noise and reconstructions per class; as many as centroids where omitted.",
}


def add_decoding_arguments(parser: Any) -> None:
    """Add the options of the command to its parser."""
    for item in fields(DecodingOptions):
        name = "--" + item.name.replace("_", "-")
        made = item.default_factory
        default = item.default if made is MISSING else made()
        parser.add_argument(name, type=item.type, default=default, help=_HELP[item.name])


def run(name: str, arguments: list[str]) -> int:
    """Run ``ddoq-bench decoding``.

    Args:
        name: The command.
        arguments: Its options.

    Returns:
        0, whether or not a setting reaches the goal.

    Raises:
        UserError: For every mistake in the configuration.
    """
    cli = configure(name, arguments, add_decoding_arguments)
    options = DecodingOptions(
        **{item.name: cli.config[item.name] for item in fields(DecodingOptions)}
    )
    return run_bench(cli, arguments, lambda bench: measure_decoding(bench, options))
