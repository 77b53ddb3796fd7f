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
            {20.1, 21.3, 40.2},
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


def test_what_stands_beside_lpld_are_previous_numbers_of_sre2l():
    quoted = [n for n in find(method="sre2l") if n.source.startswith("LPLD")]
    top1 = {10: 20.1, 20: 33.6, 50: 46.8, 100: 52.8, 200: 57.0}
    assert {n.ipc: n.top1 for n in quoted} == top1
    assert all("second-hand: SRe2L" in n.note for n in quoted)
    lpld = {n.ipc: n.top1 for n in published_numbers() if n.method.startswith("lpld")}
    assert lpld == {10: 20.2, 20: 33.0, 50: 46.7, 100: 54.0, 200: 59.6}


def test_recipes_of_sre2l_and_cda_say_what_holds_where():
    (recipe,) = {n.recipe for n in find(dataset="imagenet-1k", method="sre2l", ipc=100) if n.std}
    assert "CIFAR-100 batch 128, 400 epochs, T = 30, MixUp" in recipe
    cda = [n for n in find(method="cda") if n.recipe.startswith("CDA")]
    assert {n.dataset for n in cda if "batch 128" in n.recipe} == {"imagenet-1k"}
    others = {n.dataset for n in cda if "batch is not shown" in n.recipe}
    assert others == {"tiny-imagenet", "imagenet-21k", "cifar100"}


def test_columns_and_contradictions_of_sources_are_named():
    (tesla,) = find(dataset="imagenet-1k", method="tesla")
    assert (tesla.student, tesla.top1) == ("resnet18", 7.7)
    assert "D4M, in its ResNet-18 column" in tesla.note
    wanted = {"dataset": "imagenet-1k", "ipc": 50, "method": "sre2l", "student": "resnet101"}
    (ours,) = [n for n in find(**wanted) if n.std]
    assert (ours.top1, "57.6" in ours.note) == (60.8, True)


# Typed from the tables that give deviations: those of SRe2L, SCDD, Minimax Diffusion and G-VBSM.
DEVIATIONS = {
    ("imagenet-1k", 10, "sre2l"): [0.6, 0.1, 0.1],
    ("imagenet-1k", 50, "sre2l"): [0.2, 0.3, 0.5],
    ("imagenet-1k", 100, "sre2l"): [0.3, 0.4, 0.2],
    ("imagenet-1k", 200, "sre2l"): [0.4, 0.3, 0.3],
    ("tiny-imagenet", 50, "sre2l"): [0.4, 0.5, 0.2],
    ("tiny-imagenet", 100, "sre2l"): [0.3, 0.4, 0.3],
    ("cifar100", 50, "scdd"): [1.1],
    ("imagenet-1k", 10, "minimax"): [0.5],
    ("imagenet-1k", 50, "minimax"): [0.3],
    ("imagenet-1k", 10, "g-vbsm"): [0.5],
}


# FRePo, in the table of NCFM.
FREPO = {
    "cifar10": {1: 46.8, 10: 65.5, 50: 71.7},
    "cifar100": {1: 28.7, 10: 42.5, 50: 44.3},
    "tiny-imagenet": {1: 15.4, 10: 25.4},
}
FREPO_DEVIATIONS = {1: 0.7, 10: 0.4, 50: 0.2}  # on CIFAR-10


@pytest.mark.parametrize("dataset", FREPO)
def test_frepos_numbers_name_its_wider_network(dataset):
    numbers = find(dataset=dataset, method="frepo")
    assert {number.ipc: number.top1 for number in numbers} == FREPO[dataset]
    assert all("quoted by NCFM" in number.note for number in numbers)
    assert all("width doubles" in number.recipe for number in numbers)
    student = "not stated" if dataset == "tiny-imagenet" else "convnet3-doubling-nonorm"
    assert {number.student for number in numbers} == {student}


def test_deviations_stand_where_tables_give_them():
    students = ("resnet18", "resnet50", "resnet101")
    expected = {
        (*cell, student): std
        for cell, deviations in DEVIATIONS.items()
        for student, std in zip(students, deviations, strict=False)
    }
    for ipc, std in FREPO_DEVIATIONS.items():
        expected["cifar10", ipc, "frepo", "convnet3-doubling-nonorm"] = std
    given = {
        (n.dataset, n.ipc, n.method, n.student): n.std
        for n in published_numbers()
        if n.std is not None
    }
    assert given == expected
