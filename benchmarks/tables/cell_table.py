"""The results of one run, for the terminal."""

from tabulate import tabulate

from benchmarks.results.columns import tells_top5
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
    names = {"top-1 last": "top1_last", "top-1 best": "top1_best"}
    if tells_top5(results[0]):
        names["top-5"] = "top5_last"
    rows = []
    for label, group in students.items():
        metrics = [
            Score.of([getattr(r.metrics, name) for r in group]).percent() for name in names.values()
        ]
        cost = group[0].cost
        seconds = Score.of([float(r.cost["seconds"]) for r in group]).mean
        rows.append([label, f"{cost['params']:,}", cost["steps"], *metrics, f"{seconds:.1f}"])
    headers = ["student", "params", "steps", *names, "seconds"]
    title = f"{cell.method} on {cell.dataset}, {cell.ipc} images per class, recipe {cell.recipe}, accuracy in %:"
    align = ["left"] + ["right"] * (len(headers) - 1)
    return f"{title}\n{tabulate(rows, headers, 'simple', disable_numparse=True, colalign=align)}"
