"""The record of what was measured of a prior's decoding."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ddoq.errors import UserError
from ddoq.measures import DecodedSetting
from ddoq.storage.damage import DamagedError
from ddoq.storage.files import read_sealed, write_sealed
from ddoq.storage.fingerprints import hash_config

# Raised whenever a change of code changes what is measured, or the meaning of the fields.
RECORD_FORMAT = 2


@dataclass(frozen=True)
class ImageFigures:
    """What was measured of a set of images.

    Attributes:
        name: What they are.
        images: How many.
        recognised: Share of which the teacher names the intended class, in [0, 1].
        frechet: Squared Frechet distance to all real test images in the teacher's features, of reconstructions to those that
            are not reconstructed; None of real test images themselves, and where none is left.
    """

    name: str
    images: int
    recognised: float
    frechet: float | None


@dataclass(frozen=True)
class DecodingRecord:
    """Everything that was measured, and of what.

    Attributes:
        config: All that decides the numbers, as JSON values: fingerprints of data, prior and teacher, method, seed, numbers
            of images, settings. Its hash names the folder.
        dataset: Its name.
        class_names: In label order.
        prior: ``reconstruction_psnr`` in dB, of ``reconstructed`` test images.
        teacher: ``arch`` and ``accuracy`` on the real test images.
        sets: Images that depend on no strength: real ones, reconstructions, plain decodes, samples from noise.
        settings: Centroids, decoded at every strength and guidance.
        rule: How one of these is chosen, in words.
        picked: The one that the rule chooses.
        reached: Whether it reaches the goal.
        provenance: See :func:`ddoq.storage.provenance.provenance`.
        created: When, as ISO 8601 in UTC.
    """

    config: dict[str, Any]
    dataset: str
    class_names: list[str]
    prior: dict[str, Any]
    teacher: dict[str, Any]
    sets: list[ImageFigures]
    settings: list[DecodedSetting]
    rule: str
    picked: DecodedSetting
    reached: bool
    provenance: dict[str, Any]
    created: str

    @property
    def name(self) -> str:
        """Name of the folder: method, budget and hash."""
        return folder_name(self.config)

    @property
    def real(self) -> ImageFigures:
        """The real test images."""
        return self.sets[0]

    def write(self, path: Path) -> None:
        """Write it with a checksum, atomically."""
        write_sealed(path, {"format": RECORD_FORMAT, **asdict(self)})


def folder_name(config: Mapping[str, Any]) -> str:
    """Name the folder of a record by what it is of.

    Example:
        >>> folder_name({"method": "ddoq", "ipc": 10}).rpartition("-")[0]
        'ddoq-ipc10'
    """
    return f"{config['method']}-ipc{config['ipc']}-{hash_config(config)}"


def read_record(path: Path) -> DecodingRecord:
    """Read a record.

    Args:
        path: What :meth:`DecodingRecord.write` wrote.

    Raises:
        DamagedError: If it is missing, was changed, or holds something else.
        UserError: If it is of another format.
    """
    values = read_sealed(path)
    if not isinstance(values, dict) or "format" not in values:
        raise DamagedError(path, "is no record of a prior's decoding")
    if values.pop("format") != RECORD_FORMAT:
        raise UserError(f"{path} is of another version of this package: delete it.")
    try:
        values["sets"] = [ImageFigures(**item) for item in values["sets"]]
        values["settings"] = [DecodedSetting(**item) for item in values["settings"]]
        values["picked"] = DecodedSetting(**values["picked"])
        return DecodingRecord(**{item.name: values[item.name] for item in fields(DecodingRecord)})
    except (KeyError, TypeError) as error:
        raise DamagedError(path, f"lacks what a record holds ({error})") from None
