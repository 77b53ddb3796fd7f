"""The one table of commands."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """A command of ``ddoq-bench``.

    Attributes:
        help: What it does, in a line.
        module: The module of this package whose ``run(name, arguments)`` does it and returns the exit status.
    """

    help: str
    module: str


COMMANDS = {
    "fit": Command(
        "distil (or reuse what is cached), then train and test every student, print and store the rows",
        "configured",
    ),
    "distill": Command("only distil", "configured"),
    "evaluate": Command(
        "only train and test students, on the configuration's own or on a given distilled set",
        "configured",
    ),
    "prior": Command(
        "train (or reuse) the latent diffusion prior of a configuration; `decoding` measures it",
        "configured",
    ),
    "teacher": Command("train (or reuse) the teacher of a configuration", "configured"),
    "decoding": Command(
        "measure how good a prior is to decode with, over strength and guidance, and pick a setting",
        "decoding",
    ),
    "plan": Command(
        "say what a configuration will take in operations, disk, memory and hours; nothing runs",
        "plan",
    ),
    "check": Command(
        "read every image of a dataset: unreadable ones, sizes, modes, classes, test images in training",
        "check",
    ),
    "theory": Command(
        "measure rates of quantisation and gaps between gradients on the latents of a configuration",
        "theory",
    ),
    "suite": Command("run a grid of cells, one process each, resumable", "suite"),
    "leaderboard": Command("fold result files into tables", "leaderboard"),
    "export": Command(
        "write a distilled set as an image folder or parquet, with a dataset card", "export"
    ),
    "import": Command(
        "read a set made elsewhere (class folders, parquet), or an export, as a distilled set",
        "import_",
    ),
    "verify": Command(
        "derive a result anew from its stored configuration, and say what differs", "verify"
    ),
    "compare": Command(
        "compare two methods on the same seeds, with intervals and p-values", "compare"
    ),
    "report": Command(
        "compare all methods with chosen ones: findings, corrected p-values, figures", "report"
    ),
}
