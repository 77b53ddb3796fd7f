import pytest

from benchmarks.leaderboard.published import published_numbers
from ddoq.errors import UserError

WHOLE = """
sources: {s: A paper}
recipes: {r: A recipe}
numbers:
  - {dataset: d, ipc: 10, method: m, student: n, top1: 12.5, std: 0.5, source: s, recipe: r, note: second-hand}
  - {dataset: d, ipc: null, method: full data, student: n, top1: 90, source: s, recipe: r}
  - {dataset: d, ipc: 1, method: m, student: n, top1: 5.0, source: s, recipe: r}
"""


def find(**wanted):
    return [
        number
        for number in published_numbers()
        if all(getattr(number, key) == value for key, value in wanted.items())
    ]


def test_a_file_is_read_in_order_with_its_sources(tmp_path):
    path = tmp_path / "numbers.yaml"
    path.write_text(WHOLE)
    numbers = published_numbers(path)
    assert [number.ipc for number in numbers] == [1, 10, None]
    assert numbers[1].source == "A paper"
    assert numbers[1].recipe == "A recipe"
    assert [number.accuracy for number in numbers] == ["5", "12.5 ± 0.5", "90"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("top1: 12.5", "top1: 0.125"), "percentage from 1 to 100"),
        (("top1: 12.5", "top1: '12.5'"), "percentage from 1 to 100"),
        (("top1: 12.5, ", ""), "top1"),
        (("source: s, recipe: r, note", "source: x, recipe: r, note"), "'x' is not among s"),
        (("ipc: 10", "ipc: ten"), "positive integer or null"),
        (("note:", "notes:"), "notes"),
        (("ipc: 1,", "ipc: 10,"), "repeats"),
        (("sources", "sources: ["), "is not valid YAML: line"),
    ],
)
def test_mistakes_in_the_file_are_told(tmp_path, change, told):
    path = tmp_path / "numbers.yaml"
    path.write_text(WHOLE.replace(*change))
    with pytest.raises(UserError, match=told):
        published_numbers(path)


@pytest.mark.parametrize(
    ("wanted", "top1"),
    [
        (
            {"dataset": "imagenet-1k", "ipc": 10, "method": "d4m", "student": "resnet18"},
            {27.9, 45.4},
        ),
        (
            {"dataset": "imagenet-1k", "ipc": 10, "method": "sre2l", "student": "resnet18"},
            {21.3, 40.2},
        ),
        ({"dataset": "imagenet-1k", "ipc": 50, "method": "ddoq", "student": "swin_tiny"}, {57.4}),
        ({"dataset": "imagewoof", "ipc": 100, "method": "random", "student": "resnet18"}, {61.5}),
        ({"dataset": "cifar10", "ipc": 50, "method": "cv-dd", "student": "resnet101"}, {69.3}),
    ],
)
def test_the_suites_own_file_has_the_published_numbers(wanted, top1):
    assert {number.top1 for number in find(**wanted)} == top1


def test_what_was_not_read_in_its_source_says_so():
    assert all("second-hand" in number.note for number in find(method="ddoq"))
    for text in ("RD3", "DDOQ", "IGD"):
        numbers = [number for number in published_numbers() if number.source.startswith(text)]
        assert numbers
        assert all("second-hand" in number.note for number in numbers)
    assert all(n.source and n.recipe and n.student for n in published_numbers())
