"""The results of one run, for the terminal."""

from tabulate import tabulate

from benchmarks.results.files import Result
from benchmarks.tables.folding import Score


def cell_table(results: list[Result]) -> str:
    """Write the results of one run for the terminal: a line per student.

    Args:
        results: Results of one distilled set under one recipe.

    Returns:
        A table of students in the order given, with accuracies in %.

    Example:
        >>> cell_table([])
        'No student has finished.'
    """
    if not results:
        return "No student has finished."
    cell = results[0].cell
    students: dict[str, list[Result]] = {}
    for result in results:
        students.setdefault(result.cell.student, []).append(result)
    rows = []
    for label, group in students.items():
        metrics = [
            Score.of([getattr(r.metrics, name) for r in group]).percent()
            for name in ("top1_last", "top1_best", "top5_last")
        ]
        cost = group[0].cost
        seconds = Score.of([float(r.cost["seconds"]) for r in group]).mean
        rows.append([label, f"{cost['params']:,}", cost["steps"], *metrics, f"{seconds:.1f}"])
    headers = ["student", "params", "steps", "top-1 last", "top-1 best", "top-5", "seconds"]
    title = f"{cell.method} on {cell.dataset}, {cell.ipc} images per class, recipe {cell.recipe}, accuracy in %:"
    align = ["left"] + ["right"] * (len(headers) - 1)
    return f"{title}\n{tabulate(rows, headers, 'simple', disable_numparse=True, colalign=align)}"
