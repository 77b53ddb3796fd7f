"""Which class a folder of a set made elsewhere stands for."""

import difflib
import re
from collections.abc import Callable, Mapping, Sequence

from ddoq.data.names import build_registry
from ddoq.errors import UserError
from ddoq.exchange.classes import ClassList, class_folder, repeats

# RDED writes `00003`, SRe2L `new003`; other letters before digits are names, such as the WordNet id `n01440764`.
_NUMBERED = re.compile(r"(?:(new|class)[_-]?)?([0-9]+)", re.IGNORECASE)
_NUMBER_AND_NAME = re.compile(r"([0-9]{2,})_(.+)")  # `0003_tabby_cat`, as this package exports


def _folded(text: str) -> str:
    return "".join(letter for letter in text.casefold() if letter.isalnum())


def numbers_of(values: Sequence[str]) -> dict[str, int] | None:
    """Read all values as numbers, such as ``00003`` or ``new003``.

    Args:
        values: Folder names.

    Returns:
        The number of each; None if one of them is no number, or if they begin differently.

    Example:
        >>> numbers_of(["new000", "new001"]), numbers_of(["n01440764"])
        ({'new000': 0, 'new001': 1}, None)
    """
    matches = [_NUMBERED.fullmatch(value) for value in values]
    numbered = [match for match in matches if match]
    if len(numbered) < len(values) or len({match.group(1) for match in numbered}) > 1:
        return None
    return {match.string: int(match.group(2)) for match in numbered}


def padded(values: Sequence[str]) -> bool:
    """Say whether numbers sort as text as they do by value: all have the same length."""
    return len({len(value) for value in values}) <= 1


def classes_of(values: Sequence[str], where: str, *, numeric: bool = False) -> ClassList:
    """Take the classes from folder names alone.

    Args:
        values: Folder names, each once.
        where: What holds them, for errors.
        numeric: Whether numbers of different lengths are labels all the same.

    Returns:
        The classes: by number where all names are numbers or begin with one, else sorted as text.

    Raises:
        UserError: If numbers are of different lengths without ``numeric``, or one is missing.
    """
    begun = [_NUMBER_AND_NAME.fullmatch(value) for value in values]
    pairs = [(int(match.group(1)), match.group(2)) for match in begun if match]
    if len(pairs) == len(values) and len({number for number, _ in pairs}) == len(pairs):
        named = dict(pairs)
        _check_contiguous(sorted(named), where)
        return ClassList([named[n].replace("_", " ") for n in sorted(named)], None, where)
    numbers = numbers_of(values)
    if numeric and numbers is None:
        raise UserError(_not_numbers(values, where))
    if numbers is not None and not numeric and not padded(values):
        raise UserError(_unpadded(values, where))
    keys = sorted(values, key=lambda value: (numbers[value], value) if numbers else (0, value))
    if numbers is not None:
        _check_contiguous([numbers[key] for key in keys], where)
    return ClassList(build_registry(keys, None, "{name}").names, keys, where)


def _check_contiguous(numbers: Sequence[int], where: str) -> None:
    for expected, number in enumerate(numbers):
        if number != expected:
            raise UserError(
                f"{where}: the classes are numbered, but {expected} is "
                f"{'missing' if number > expected else 'there twice'}. Labels run from 0 without gaps; "
                f"with --classes a missing class is named."
            )


def _unpadded(values: Sequence[str], where: str) -> str:
    return (
        f"{where}: {_some(sorted(values))} are numbers of different lengths. Whoever sorted them as text has given "
        f"10 the label before 2. If each number is the label itself, say so with --numeric."
    )


def _not_numbers(values: Sequence[str], where: str) -> str:
    odd = next((value for value in values if not _NUMBERED.fullmatch(value)), values[0])
    return f"{where}: --numeric was given, but {odd!r} is no number like the others."


def _some(values: Sequence[str], most: int = 4) -> str:
    return ", ".join(values[:most]) + (" ..." if len(values) > most else "")


def match_classes(
    values: Sequence[str], classes: ClassList, where: str, *, numeric: bool = False
) -> dict[str, int]:
    """Find the label of every folder name.

    Read as keys, as names, as ``0003_name``, or as numbers (labels): the first reading that knows all of them counts,
    unless another tells a different story.

    Args:
        values: Folder names, each once.
        classes: The classes they stand for.
        where: What holds them, for errors.
        numeric: Whether the names are labels, whatever their length and whatever the keys are.

    Returns:
        Labels by folder name.

    Raises:
        UserError: If a name is no class, two names are one class, a class has no name, numbers are not padded, or two
            readings contradict each other.

    Example:
        >>> match_classes(["00000", "00001"], ClassList(["cat", "dog"], None, "a list"), "set")
        {'00000': 0, '00001': 1}
    """
    numbers = numbers_of(values)
    if numeric:
        if numbers is None:
            raise UserError(_not_numbers(values, where))
        return _checked(numbers, values, classes, where)
    readings = [
        {value: label for value in values if (label := read(value)) is not None}
        for read in _readings(classes)
    ]
    full = [reading for reading in readings if len(reading) == len(values)]
    if numbers is not None:
        if full and full[0] != numbers:
            value = next(value for value in values if full[0][value] != numbers[value])
            raise UserError(
                f"{where}: {value!r} may be the class {classes.title(full[0][value])} or the label {numbers[value]}. "
                f"If the numbers are labels, say so with --numeric; else rename them to class names."
            )
        if not full and not padded(values):
            raise UserError(_unpadded(values, where))
        full = full or [numbers]
    if not full:
        best = max(readings, key=len)
        raise UserError(_unknown(values, best, classes, where))
    return _checked(full[0], values, classes, where)


def _readings(classes: ClassList) -> list[Callable[[str], int | None]]:
    keys = {key: label for label, key in enumerate(classes.keys or [])}
    exact = {name: label for label, name in enumerate(classes.names)}
    folded = {_folded(name): label for label, name in enumerate(classes.names)}
    readings: list[Callable[[str], int | None]] = [keys.get]
    if not repeats(classes.names):  # two cranes cannot be told apart by name
        readings.append(exact.get)
    if len(folded) == len(classes.names):
        readings.append(lambda value: folded.get(_folded(value)))

    def number_and_name(value: str) -> int | None:
        match = _NUMBER_AND_NAME.fullmatch(value)
        if not match or int(match.group(1)) >= len(classes.names):
            return None
        label = int(match.group(1))
        # The exported folder name may be cut short, so a beginning will do.
        name = _folded(match.group(2))
        exported = value == class_folder(label, classes.names[label], len(classes.names))
        return label if exported or _folded(classes.names[label]).startswith(name) else None

    return [*readings, number_and_name]


def _unknown(
    values: Sequence[str], known: Mapping[str, int], classes: ClassList, where: str
) -> str:
    strange = [value for value in values if value not in known]
    near = difflib.get_close_matches(strange[0], [*(classes.keys or []), *classes.names], n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return (
        f"{where}: {_some(strange)} {'is' if len(strange) == 1 else 'are'} no class of {classes.origin}, which has "
        f"{len(classes.names)}: {_some(classes.keys or classes.names)}.{hint}"
    )


def _checked(
    labels: Mapping[str, int], values: Sequence[str], classes: ClassList, where: str
) -> dict[str, int]:
    count = len(classes.names)
    owners: dict[int, str] = {}
    for value in values:
        label = labels[value]
        if label >= count:
            raise UserError(
                f"{where}: {value!r} is no class of {classes.origin}: its labels run from 0 to {count - 1}."
            )
        if label in owners:
            raise UserError(
                f"{where}: {owners[label]!r} and {value!r} are both class {classes.title(label)}."
            )
        owners[label] = value
    return {value: labels[value] for value in values}
