"""Damages files of finished runs and lets the suite read them."""

import random
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from faults.scenarios import Scenario, signature
from faults.trials import SAME, WRONG, Trial, pattern, reaction, shown
from faults.warm import run


def flip(path: Path, draw: random.Random) -> str:
    """Change one bit."""
    content = bytearray(path.read_bytes())
    place = draw.randrange(len(content))
    content[place] ^= 1 << draw.randrange(8)
    path.write_bytes(bytes(content))
    return f"bit flipped in byte {place}"


def truncate(path: Path, draw: random.Random) -> str:
    """Cut the end off."""
    content = path.read_bytes()
    length = draw.randrange(len(content))
    path.write_bytes(content[:length])
    return f"cut to {length} of {len(content)} bytes"


def empty(path: Path, draw: random.Random) -> str:
    """Leave nothing of the content."""
    path.write_bytes(b"")
    return "emptied"


def remove(path: Path, draw: random.Random) -> str:
    """Delete the file."""
    path.unlink()
    return "deleted"


def overwrite(path: Path, draw: random.Random) -> str:
    """Put noise in the place of the content."""
    path.write_bytes(draw.randbytes(max(1, path.stat().st_size)))
    return "overwritten"


def digit(path: Path, draw: random.Random) -> str:
    """Change one digit of a text to another one, which leaves it readable; a bit where it has no digit."""
    content = bytearray(path.read_bytes())
    places = [index for index, byte in enumerate(content) if chr(byte).isdigit()]
    if not places or path.suffix == ".png":
        return flip(path, draw)
    place = draw.choice(places)
    others = [value for value in b"0123456789" if value != content[place]]
    content[place] = draw.choice(others)
    path.write_bytes(bytes(content))
    return f"a digit changed in byte {place}"


HARM: tuple[Callable[[Path, random.Random], str], ...] = (
    flip,
    truncate,
    empty,
    remove,
    overwrite,
    digit,
)


def kinds_of_files(output: Path) -> dict[str, list[Path]]:
    """Group the files of a finished run by their kind; locks have no content."""
    kinds: dict[str, list[Path]] = {}
    for path in sorted(output.rglob("*")):
        if path.is_file() and path.stat().st_size:
            kinds.setdefault(pattern(path, output), []).append(path)
    return kinds


def damage(
    scenario: Scenario,
    folder: Path,
    whole: Path,
    expected: Mapping[str, Any],
    path: Path,
    harm: Callable[[Path, random.Random], str],
    draw: random.Random,
) -> Trial:
    """Damage a file of a copy of a finished run, and run again with nothing else there.

    Only the top folder with the damaged file stays, so that the run has to read it. Then the table is folded.

    Args:
        scenario: What was run.
        folder: Where to work.
        whole: The output of the undisturbed run.
        expected: Its numbers.
        path: The file, in ``whole``.
        harm: What to do to the copy.
        draw: Draws what is left open.

    Returns:
        What came of it.
    """
    output = folder / f"damaged-{scenario.name}"
    shutil.rmtree(output, ignore_errors=True)
    relative = path.relative_to(whole)
    top = relative.parts[0]
    output.mkdir()
    shutil.copytree(whole / top, output / top)
    what = harm(output / relative, draw)
    fault = f"{harm.__name__}: {pattern(path, whole)}"
    target = f"{scenario.name}, {relative.as_posix()}: {what}"
    names = (relative.name, relative.parent.name)
    if top == "results":
        table = run(["leaderboard", str(output / top)])
        if (outcome := reaction(table, names)) is None and harm is not remove:
            return Trial(fault, target, WRONG, shown(table))
        if outcome is not None and not Trial(fault, target, outcome).allowed:
            return Trial(fault, target, outcome, shown(table))
    again = run(scenario.arguments(folder, output))
    outcome = reaction(again, names)
    numbers = signature(output) if outcome is None else None
    shutil.rmtree(output, ignore_errors=True)
    if outcome is not None:
        return Trial(fault, target, outcome, shown(again))
    if numbers == expected:
        return Trial(fault, target, SAME)
    return Trial(fault, target, WRONG, shown(again))
