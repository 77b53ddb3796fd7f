"""What is recorded of one cell: its name, its outcome, and everything that made it."""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ddoq.errors import UserError
from ddoq.storage.fingerprints import hash_config, plain
from ddoq.storage.provenance import peak_memory
from ddoq.storage.records import hashed_fields

if TYPE_CHECKING:  # reading results must not wait for torch
    from benchmarks.results.outcome import Outcome

RESULT_FORMAT = 1  # raised when a reader of the old layout would misread the new one
RESULT, FAILURE = "ddoq-bench result", "ddoq-bench failure"
FLOPS = ("flops", "teacher_flops", "test_flops")
BYTES = ("label_bytes", "teacher_bytes")
FRACTIONS = ("top1_last", "top1_best", "top5_last", "top5_best")


@dataclass(frozen=True)
class Cell:
    """What a row of the benchmark is called.

    Attributes:
        dataset: Name of the dataset.
        method: Name of the method, e.g. ``ddoq``.
        ipc: Images per class.
        student: Label of the student.
        seed: Seed of the student.
        distill_seed: Seed of the distillation; None for a set that was imported.
        recipe: Label of the recipe, e.g. ``unified[epochs=60]``.
    """

    dataset: str
    method: str
    ipc: int
    student: str
    seed: int
    distill_seed: int | None
    recipe: str


@dataclass(frozen=True)
class SetConfig:
    """What tells a distilled set from others, as the configuration of a cell has it.

    Attributes:
        method: Name of the method; None where it is unknown.
        ipc: Images per class that were asked for.
        seed: Seed of the distillation.
        settings: The method's own arguments.
        context: Fingerprints of what it worked with.
        fingerprint: Of the images, labels and weights.
        collage: Patches along a side of its images, which changes how students see them.
        set_precision: ``uint8`` where float images were rounded to 8 bit.
    """

    method: str | None
    ipc: int | None
    seed: int | None
    settings: Mapping[str, Any] | None
    context: Mapping[str, Any] | None
    fingerprint: str
    collage: int | None = field(default=None, metadata={"since": 2})
    set_precision: str | None = field(default=None, metadata={"since": 3})

    @classmethod
    def of(cls, record: Mapping[str, Any], fingerprint: str) -> "SetConfig":
        """Take from a set's record what belongs here."""
        names = [item.name for item in fields(cls) if item.name != "fingerprint"]
        return cls(fingerprint=fingerprint, **{name: record.get(name) for name in names})


@dataclass(frozen=True)
class JointConfig:
    """How several ranks trained one student together."""

    world_size: int
    sync_batchnorm: bool


@dataclass(frozen=True)
class CellConfig:
    """Everything that decides a cell's numbers; its hash names the result file.

    Fields that are added follow the rule of :mod:`ddoq.storage.records`, so that stored results stay valid.

    Attributes:
        format: Of the evaluation.
        data: Description of the dataset.
        distilled: Which set.
        teacher: Its fingerprint; None without one.
        recipe: Values of the recipe, later fields only where they are used.
        student: Fields of the student, later ones only where they are used.
        seed: Of the student.
        precision: Of the trainer.
        label_format: Of stored labels; None where labels are not stored.
        evaluation: The ranks that trained it together; None where one did.
    """

    format: int
    data: Mapping[str, Any]
    distilled: SetConfig
    teacher: str | None
    recipe: Mapping[str, Any]
    student: Mapping[str, Any]
    seed: int
    precision: str
    label_format: int | None = field(default=None, metadata={"since": 2})
    evaluation: JointConfig | None = field(default=None, metadata={"since": 2})

    def record(self) -> dict[str, Any]:
        """Return the configuration as results keep and hash it."""
        return hashed_fields(self)


@dataclass(frozen=True)
class Metrics:
    """Accuracies on the real test set, as fractions in [0, 1].

    Attributes:
        top1_last: After the last epoch: the headline.
        top1_best: The highest of the curve, chosen on the test set.
        top5_last: As ``top1_last``, for the five likeliest classes.
        top5_best: As ``top1_best``, for the five likeliest classes.
        best_epoch: Completed epochs at ``top1_best``.
        curve: One entry per evaluation.

    Raises:
        UserError: If an accuracy is no fraction; percentages are refused, not converted.
    """

    top1_last: float
    top1_best: float
    top5_last: float
    top5_best: float
    best_epoch: int
    curve: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Refuse what is no fraction."""
        for name in FRACTIONS:
            value = getattr(self, name)
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not 0 <= value <= 1:
                raise UserError(f"{name} must be a fraction in [0, 1], not {value!r}.")


@dataclass(frozen=True)
class Result:
    """The outcome of one cell with everything that made it.

    Attributes:
        cell: What it is called.
        config: Everything that decides its numbers, as JSON values; the hash of this names the file.
        metrics: Accuracies.
        cost: ``seconds``, ``params``, ``epochs``, ``steps``, ``effective_batch``, ``global_batch``, ``world_size``, ``device``,
            ``precision``, ``peak_memory``; ``flops`` of the student's training, ``teacher_flops`` of the labels made
            on the way, ``test_flops``, and ``device_hours``: seconds times ranks over 3600. Older files lack the last
            four. ``label_bytes`` of stored labels and ``teacher_bytes`` of a teacher that labels online are 0 where
            there are none; older files lack them. ``sync_batchnorm`` of several ranks: False means that batch
            statistics were each rank's own.
        teacher: ``arch``, ``accuracy_real``, ``accuracy_distilled``, ``fingerprint``; None for hard labels.
        distilled: ``fingerprint``, ``images``, ``bytes``, ``effective_ipc``, ``statistics``, ``cost``, ``provenance`` of the
            set; ``decoded_images``, on which students train, and ``stored_bytes`` of images, targets and whatever
            decodes them; ``uint8_bytes`` and ``float_bytes``, the same with images of 8 and of 32 bit; ``ingredients``, what
            the record says of each. Older files lack the last five. ``knowledge``, what it knows beyond its budget, where
            its method says so, e.g. which generator made it.
        provenance: Of the student's training; see :func:`ddoq.storage.provenance.provenance`.
        created: When, as ISO 8601 in UTC.
        warnings: What makes its numbers mean little, a sentence each; left out of the file where there is none, as in all
            older files.
        run: What of the run's configuration decides numbers, see :func:`benchmarks.results.rerun.rerun_config`; None in
            older files.
    """

    cell: Cell
    config: dict[str, Any]
    metrics: Metrics
    cost: dict[str, Any]
    teacher: dict[str, Any] | None
    distilled: dict[str, Any]
    provenance: dict[str, Any]
    created: str
    warnings: list[str] = field(default_factory=list, metadata={"since": 2})
    run: dict[str, Any] | None = field(default=None, metadata={"since": 2})

    @functools.cached_property
    def config_hash(self) -> str:
        """Hash of the configuration: the stem of the file's name."""
        return hash_config(self.config)

    def record(self) -> dict[str, Any]:
        """Return what the file holds, with the hash that gives away later edits."""
        record = {"kind": RESULT, "format": RESULT_FORMAT, "config_hash": self.config_hash}
        record |= plain(hashed_fields(self))
        return {**record, "record_hash": hash_config(record)}


@dataclass(frozen=True)
class Failure:
    """A cell that ended in an error.

    Attributes:
        cell: What it is called.
        config_hash: Hash of its configuration, where known.
        error: The message or traceback.
        created: When, as ISO 8601 in UTC.
    """

    cell: Cell
    config_hash: str | None
    error: str
    created: str


def now() -> str:
    """Return the current time as ISO 8601 in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def make_result(
    *,
    cell: Cell,
    config: Mapping[str, Any],
    outcome: "Outcome",
    teacher: Mapping[str, Any] | None,
    distilled: Mapping[str, Any],
    provenance: Mapping[str, Any],
    device: str | None = None,
    warnings: Sequence[str] = (),
    run: Mapping[str, Any] | None = None,
) -> Result:
    """Put together what is known of a cell after its training.

    Args:
        cell: What it is called.
        config: Everything that decides its numbers.
        outcome: What the training came to.
        teacher: See :class:`Result`.
        distilled: See :class:`Result`.
        provenance: See :class:`Result`.
        device: Name of the device; taken from ``provenance`` where omitted.
        warnings: See :class:`Result`.
        run: See :class:`Result`.

    Returns:
        The result, made of JSON values; numbers that are not finite become None outside of ``config``.
    """
    metrics = {item.name: getattr(outcome, item.name) for item in fields(Metrics)}
    names = (
        "seconds",
        "params",
        "epochs",
        "steps",
        "effective_batch",
        "global_batch",
        "world_size",
    )
    operations = {name: getattr(outcome, name, None) for name in FLOPS}
    gpus = provenance.get("gpus") or []
    cost = {
        **{name: getattr(outcome, name) for name in names},
        **operations,
        **{name: getattr(outcome, name, None) for name in BYTES},
        "device_hours": outcome.seconds * outcome.world_size / 3600,
        "sync_batchnorm": getattr(outcome, "sync_batchnorm", None),
        "device": device or (gpus[0] if gpus else provenance.get("cpu") or "unknown"),
        "precision": str(config.get("precision") or "32-true"),
        "peak_memory": peak_memory(),
    }
    return Result(
        cell=cell,
        config=plain(config),
        metrics=Metrics(**_finite(plain(metrics))),
        cost=_finite(plain(cost)),
        teacher=None if teacher is None else _finite(plain(teacher)),
        distilled=_finite(plain(distilled)),
        provenance=plain(provenance),
        created=now(),
        warnings=list(warnings),
        run=None if run is None else plain(run),
    )


def _finite(value: Any) -> Any:
    """Replace what JSON cannot hold; a diverged student has a loss of NaN."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
