"""Malformed configurations and command lines, drawn by hypothesis."""

import math
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

from faults.caches import Place, dotted, leaves, replaced
from faults.legal import reason
from faults.scenarios import Scenario, signature
from faults.trials import LEGAL, SILENT, WRONG, Trial, reaction, shown
from faults.warm import run

# What nobody should write in the place of a value. Some of it is legal in some places: see `legal.py`.
JUNK: tuple[Any, ...] = (
    math.nan,
    math.inf,
    -math.inf,
    -1,
    0,
    10**12,
    1e30,
    -0.5,
    "",
    "x" * 3000,
    "../..",
    "=1+1",
    "nul\0l",
    "über 漢字",
    True,
    None,
    [],
    {},
    [[]],
    {"class_path": "os.system", "init_args": {"command": "true"}},
)
_LIMIT = 90.0  # seconds that an accepted input may take
_FILE = "malformed.yaml"
_FREE = ("kwargs", "lr_by_arch")
_TYPOS = "abcdefghijklmnopqrstuvwxyz_"


@dataclass(frozen=True)
class Malformed:
    """An input that is wrong somewhere.

    Attributes:
        fault: How it is wrong: the row of the report.
        place: The key, as users write it; empty where it is not at one key.
        text: The YAML.
        arguments: What follows it on the command line.
        must_fail: Whether it may not be accepted at all.
        value: What stands at the place.
    """

    fault: str
    place: str
    text: bytes
    arguments: tuple[str, ...] = ()
    must_fail: bool = False
    value: Any = None


def _dump(config: Any) -> bytes:
    return yaml.safe_dump(config, allow_unicode=True).encode()


@st.composite
def junk_values(draw: st.DrawFn, config: dict[str, Any]) -> Malformed:
    """Put junk in the place of one value."""
    place, old = draw(st.sampled_from([item for item in leaves(config) if item[0] != ("output",)]))
    value = draw(st.sampled_from([item for item in JUNK if repr(item) != repr(old)]))
    changed = replaced(config, place, value)
    return Malformed("junk value", dotted(place), _dump(changed), value=value)


@st.composite
def misspelt_keys(draw: st.DrawFn, config: dict[str, Any]) -> Malformed:
    """Misspell a key, or add one that nobody knows."""
    place, old = draw(st.sampled_from([item for item in leaves(config) if _is_key(item[0])]))
    key = str(place[-1])
    index = draw(st.integers(0, len(key) - 1))
    letter = draw(st.sampled_from(_TYPOS))
    wrong = draw(
        st.sampled_from([key[:index] + letter + key[index:], key[:index] + key[index + 1 :]])
    )
    holder = _at(config, place[:-1])
    if wrong in holder or not wrong:
        wrong = f"{key}_"
    others = {(wrong if k == key else k): v for k, v in holder.items()}
    added = draw(st.booleans())
    changed = replaced(config, place[:-1], {**holder, wrong: old} if added else others)
    return Malformed("unknown key", wrong, _dump(changed), must_fail=not _free(place))


@st.composite
def doubled_keys(draw: st.DrawFn, config: dict[str, Any]) -> Malformed:
    """Write a line of the YAML twice."""
    lines = _dump(config).decode().splitlines()
    index = draw(st.sampled_from([i for i, line in enumerate(lines) if _scalar(line)]))
    lines.insert(index, lines[index])
    key = lines[index].split(":")[0].strip(" -")
    return Malformed("key given twice", key, "\n".join(lines).encode(), must_fail=True)


@st.composite
def broken_text(draw: st.DrawFn, config: dict[str, Any]) -> Malformed:
    """Damage the text of the YAML."""
    content = bytearray(_dump(config))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(content) - 1))
        if draw(st.booleans()):
            content[place] = draw(st.integers(0, 255))
        else:
            content[place:place] = draw(
                st.sampled_from([b"[", b"{", b"&a ", b"*a", b"\t", b": ", b"!!python/x "])
            )
    return Malformed("damaged YAML", "", bytes(content))


@st.composite
def odd_arguments(draw: st.DrawFn, config: dict[str, Any]) -> Malformed:
    """Add one odd argument to the command line."""
    place, _ = draw(st.sampled_from([item for item in leaves(config) if _is_key(item[0])]))
    value = draw(st.sampled_from(["", "nan", "-1", "[", "{", "null", "x", "1e999", "--", "{a: 1}"]))
    name = "--" + dotted(place)
    forms = [(name, value), (f"{name}={value}",), (name,), (name, value, name, value)]
    return Malformed(
        "odd argument", dotted(place), _dump(config), draw(st.sampled_from(forms)), value=value
    )


def malformed(config: dict[str, Any]) -> st.SearchStrategy[Malformed]:
    """Draw any kind of malformed input from a valid configuration with every key."""
    kinds = {
        junk_values(config): 8,
        misspelt_keys(config): 3,
        doubled_keys(config): 2,
        broken_text(config): 2,
        odd_arguments(config): 5,
    }
    weighted = [kind for kind, weight in kinds.items() for _ in range(weight)]
    return st.sampled_from(weighted).flatmap(lambda kind: kind)


def attempt(given: Malformed, scenario: Scenario, folder: Path, whole: Path) -> Trial:
    """Run a malformed input beside the caches of a finished run.

    Args:
        given: The input.
        scenario: What it was drawn from.
        folder: Where to work.
        whole: The output of the undisturbed run.

    Returns:
        What came of it.
    """
    file, output = folder / _FILE, folder / "malformed"
    shutil.rmtree(output, ignore_errors=True)
    shutil.copytree(whole, output)
    file.write_bytes(given.text)
    arguments = ["fit", "--config", str(file), "--output", str(output), *given.arguments]
    finished = run(arguments, limit=_LIMIT, prepare=lambda: os.chdir(folder))
    target = f"{scenario.name}, {given.place}={given.value!r:.40} {' '.join(given.arguments):.80}"
    outcome = reaction(finished, _names(given.place, given.value))
    rows = signature(output)
    shutil.rmtree(output, ignore_errors=True)
    if outcome is None:
        outcome = _accepted(given, rows)
    return Trial(given.fault, target, outcome, shown(finished))


def _accepted(given: Malformed, rows: Mapping[str, Any]) -> str:
    """Judge an input that was taken: by its numbers, and by whether what is odd in it is documented as legal."""
    if given.must_fail:
        return SILENT
    if not all(_sound(row["metrics"]) for row in rows.values()):
        return WRONG
    if given.fault == "damaged YAML":  # what is left is a configuration like any other
        return LEGAL
    value = yaml.safe_load(given.value) if given.arguments else given.value
    return LEGAL if reason(given.place, value) else SILENT


def _names(place: str, value: Any) -> list[str]:
    """Return what an error may name: the last two names of a place, the line of the file, an inner key."""
    words = [word for word in place.split(".") if not word.isdigit()]
    inner = [word for word in words[-2:] if word != "init_args"]
    text = [str(value)] if isinstance(value, str) and len(value) > 2 else []
    return [*inner, *text, f"{_FILE}, line", "key 'a'"]


def _sound(value: Any) -> bool:
    """Say whether all numbers of a row are there and finite."""
    if isinstance(value, dict):
        return all(_sound(item) for item in value.values())
    if isinstance(value, list):
        return all(_sound(item) for item in value)
    return value is not None and (not isinstance(value, float) or math.isfinite(value))


def _is_key(place: Place) -> bool:
    return isinstance(place[-1], str)


def _free(place: Place) -> bool:
    """Say whether the key is one of a mapping that users fill as they like."""
    return len(place) > 1 and place[-2] in _FREE


def _at(config: Any, place: Place) -> Any:
    for key in place:
        config = config[key]
    return config


def _scalar(line: str) -> bool:
    """Say whether a line of YAML is a key with its value, not the first of a list's item."""
    key, colon, value = line.partition(": ")
    return bool(colon and value.strip() and not key.strip().startswith("-"))
