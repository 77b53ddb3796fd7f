"""The page that says what was done to the suite and what came of it."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from tabulate import tabulate

from ddoq.storage.provenance import provenance
from faults.legal import TABLE
from faults.trials import Trial

_RUN = "## Run of "
_INTRODUCTION = """# Reliability

What was done to the suite on purpose, how often, and what came of it. Allowed are the numbers of an undisturbed run, or one error line that
names the key or the file (exit status 2; 1 where cells failed and are named). Not allowed are other numbers, tracebacks, runs without an end, errors that name nothing, and
odd values that are accepted although no line below says that they are legal.

- **Kills** hit `fit` at random moments, up to five times a run; then the run goes on to its end. Checkpoints are kept after every step here. Processes are forks of one that has
  imported torch, so the moments lie in the work, not in the imports.
- **Files**: the list is that of a finished run. One file of a copy is damaged, everything outside of its top folder is deleted so that the run has to read it, and the run is
  started again. Results are also folded into a table.
- **Disks** are file systems in memory, too small for the run; then they are enlarged and the run is started again.
- **Keys**: one value of the whole configuration is changed to another legal one, beside the caches of the old run and in a fresh folder: the same numbers, or the same error.
- **Malformed inputs** are drawn by hypothesis from the whole configuration: junk in the place of a value, misspelt, unknown and doubled keys, damaged YAML, odd arguments.
"""


def page(trials: Sequence[Trial], command: str, seconds: float, before: str = "") -> str:
    """Write the page as Markdown.

    Args:
        trials: All trials.
        command: How they were made.
        seconds: How long that took.
        before: A page whose runs are kept, ahead of this one.

    Returns:
        The page.
    """
    git = provenance()["git"] or {}
    commit = str(git.get("commit") or "unknown")[:12]
    commit += ", modified" if git.get("modified") else ""
    wrong = sum(not trial.allowed for trial in trials)
    head = f"{_RUN}{datetime.now(UTC):%Y-%m-%d}, commit {commit}"
    total = (
        f"**{len(trials):,} faults in {seconds / 60:.0f} minutes, "
        f"{wrong:,} outcomes that are not allowed.**"
    )
    runs = _RUN.join(["", *before.split(_RUN)[1:]])
    parts = [_INTRODUCTION, _legal(), runs, head, total, f"```bash\n{command}\n```"]
    return "\n\n".join(part.strip() for part in [*parts, _outcomes(trials)] if part) + "\n"


def _outcomes(trials: Sequence[Trial]) -> str:
    """Count by fault and outcome."""
    counts = Counter((trial.fault, trial.outcome, trial.allowed) for trial in trials)
    rows = [
        [fault, number, outcome if fine else f"**{outcome}**"]
        for (fault, outcome, fine), number in sorted(counts.items())
    ]
    return tabulate(rows, ["fault", "tries", "outcome"], tablefmt="github")


def _legal() -> str:
    rows = [[", ".join(f"`{key}`" for key in row.keys), row.values, row.why] for row in TABLE]
    table = tabulate(rows, ["key", "odd value", "why it is legal"], tablefmt="github")
    return f"## Odd values that are legal\n\n{table}"
