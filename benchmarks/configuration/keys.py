"""The one list of what may stand at the top of a configuration."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Key:
    """A top-level key.

    Attributes:
        help: What it is for, for ``--help``.
        default: Its value where omitted; of a dataclass, one that was made without arguments.
        part: Whether it names a class with its arguments; None leaves the part out.
        required: Whether a part may not be left out.
        vary: Whether the grid of a suite may vary it.
        after_distillation: Whether a distilled set is the same whatever its value, so that values need no distillation
            of their own.
        instead: What to use in a suite, for keys that a suite gives to its processes itself.
        records: Whether it lists records, of which later ones replace the earlier ones whole.
        folder: Whether it names a file or a folder, which no empty text does.
    """

    help: str = ""
    default: Any = None
    part: bool = False
    required: bool = False
    vary: bool = False
    after_distillation: bool = False
    instead: str = ""
    records: bool = False
    folder: bool = False


# In the order in which a configuration is printed and stored.
KEYS = {
    "config": Key("A configuration file; several are read in their order."),
    "seed_everything": Key("Seed of what draws without a seed of its own.", 0, vary=True),
    "trainer": Key("Arguments of Lightning's trainer.", vary=True),
    "model": Key("The method.", part=True, vary=True),
    "data": Key("The dataset.", part=True, required=True, vary=True),
    "prior": Key("Where the prior comes from.", part=True, vary=True),
    "teacher": Key("Where the teacher comes from.", part=True, vary=True),
    "students": Key(
        "Who learns from the set.",
        [],
        instead="list `students` in the suite file",
        records=True,
    ),
    "seeds": Key("One run a student and seed.", [0], instead="list `seeds` in the suite file"),
    "recipe": Key("How they learn.", vary=True, after_distillation=True),
    "evaluation": Key(
        "How students are evaluated: by which ranks (independent or ddp), sets without classes by transfer, and sets of graphs.",
        vary=True,
        after_distillation=True,
    ),
    "wandb": Key("W&B logging.", vary=True, after_distillation=True),
    "output": Key(
        "Folder of caches and results.",
        "runs",
        folder=True,
        instead="give `output` in the suite file or `--output`",
    ),
    "distilled": Key("Folder of a set to evaluate.", folder=True),
    "smoke": Key(
        "Try the configuration from end to end on tiny sizes: a few images and steps, one small student, results in "
        "OUTPUT/smoke. `synthetic` needs no dataset.",
        False,
    ),
    "force": Key("Train students again.", False, vary=True, after_distillation=True),
    "report": Key(
        "File that shall list what this run made.",
        folder=True,
        instead="leave it out: every process has a report of its own",
    ),
    "extends": Key("Files read before this one (in YAML only).", []),
}

PARTS = tuple(name for name, key in KEYS.items() if key.part)
RECORDS = tuple(name for name, key in KEYS.items() if key.records)


def annotations() -> dict[str, Any]:
    """Return the type of each key's value; imports what :data:`KEYS` does without, torch among it."""
    import lightning as L

    from benchmarks.run.bench import RecipeChoice
    from benchmarks.run.ranks import EvaluationOptions
    from benchmarks.run.smoke import SmokeChoice
    from benchmarks.students.student import Student
    from benchmarks.tracking.loggers import WandbOptions
    from ddoq.data import LabelledData
    from ddoq.distillation.distiller import Distiller
    from ddoq.priors import PriorSource
    from ddoq.teachers import TeacherSource

    return {
        "config": str,
        "seed_everything": bool | int,
        "trainer": L.Trainer,
        "model": Distiller,
        "data": LabelledData,
        "prior": PriorSource,
        "teacher": TeacherSource,
        "students": list[Student],
        "seeds": list[int],
        "recipe": RecipeChoice,
        "evaluation": EvaluationOptions,
        "wandb": WandbOptions,
        "output": str,
        "distilled": str | None,
        "smoke": SmokeChoice,
        "force": bool,
        "report": str | None,
        "extends": list[str],
    }
