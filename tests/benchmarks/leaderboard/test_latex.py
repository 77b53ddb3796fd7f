import random
import re
import shutil
import subprocess

import pytest

from benchmarks.leaderboard.latex import escape, latex
from benchmarks.tables.folding import fold

EVIL = r'a_b & 50% $x^2$ #1 {y} ~ \input{/etc/passwd} <script> "q" |'


def typeset(text):
    """Drop comments."""
    return "\n".join(line for line in text.splitlines() if not line.startswith("%"))


def test_a_booktabs_table_with_means_and_spreads(result_of):
    accuracies = {"ddoq": [0.5, 0.6], "random": [0.3, 0.3]}
    results = [
        result_of(method=m, seed=s, top1=a, student=student)
        for m, values in accuracies.items()
        for s, a in enumerate(values)
        for student in ("resnet18", "vit")
    ]
    text = typeset(latex(fold(results)))
    rules = [r"\toprule", r"\midrule", r"\bottomrule", r"\begin{table}", r"\end{table}"]
    assert all(text.count(rule) == 1 for rule in rules)
    assert r"\begin{tabular}{lrrr}" in text
    assert r"ddoq & $55.0 \pm 7.1$ & $55.0 \pm 7.1$ & $55.0$ \\" in text
    assert r"random & $30.0 \pm 0.0$ & $30.0 \pm 0.0$ & $30.0$ \\" in text
    assert "$n = 2$ results that differ in seeds alone" in text
    assert "toy, 10 images per class, recipe unified, online labels" in text


def test_intervals_and_ceiling_are_typeset(result_of):
    results = [result_of(seed=s, top1=0.5 + s / 50) for s in (0, 1)]
    results += [result_of(method="full", ipc=40, seed=s, top1=0.9) for s in (0, 1)]
    text = typeset(latex(fold(results)))
    assert r"95\,\% intervals" in text
    assert "ddoq: resnet18 $38.3$ to $63.7$" in text
    assert r"full (all real images) & $90.0 \pm 0.0$ & $90.0$ \\" in text
    assert "toy, all training images (up to 40 per class), recipe unified" in text
    assert "intervals" not in typeset(latex(fold(results[:1])))


def test_unequal_numbers_of_seeds_stand_in_the_cells(result_of):
    results = [result_of(seed=0), result_of(seed=1), result_of(method="random", top1=0.3)]
    text = typeset(latex(fold(results)))
    assert r"$50.0 \pm 0.0$ (2)" in text
    assert "$30.0$ (1)" in text


def test_what_was_not_run_is_empty(result_of):
    results = [result_of(), result_of(student="vit"), result_of(method="random")]
    text = typeset(latex(fold(results)))
    assert r"random & $50.0$ &  &  \\" in text
    assert "one result per cell" in text


def test_how_the_numbers_were_made_stays_in_comments(result_of):
    results = [result_of(method="evil\n\\input{x}", settings={"k": "a\nb"})]
    text = latex(fold(results), ["broken\n\\input{y}"])
    for line in text.splitlines():
        assert r"\input" not in line or line.startswith("%")
    assert "% Left out:\n% broken" in text
    assert "% Seeds of evil \\input{x}: none varies" in text
    assert "97.22 % top-1 on the real test set" in text


def test_escaping_leaves_no_active_character():
    text = escape(EVIL)
    rest = re.sub(r"\\[a-z]+\{\}|\\[&%$#_{}]", "", text)
    assert not set(rest) & set(r"\&%$#_{}~^")
    assert escape("[a]*") == "{[}a{]}{*}"
    assert escape("a\n\t b\x00\x1b") == "a b"


def test_text_does_not_depend_on_the_order(result_of):
    results = [result_of(method=m, seed=s) for m in ("a", "b") for s in range(3)]
    texts = set()
    for turn in range(3):
        random.Random(turn).shuffle(results)
        texts.add(latex(fold(results)))
    assert len(texts) == 1


@pytest.mark.slow
def test_latex_accepts_it(result_of, tmp_path):
    if not shutil.which("pdflatex"):
        pytest.skip("pdflatex is not installed")
    names = {"method": EVIL, "student": EVIL, "recipe_label": EVIL, "data": {"name": EVIL}}
    results = [result_of(**names), result_of(method="[x]"), result_of(method="*", ipc=1)]
    body = latex(fold(results), [EVIL])
    document = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\n%s\\end{document}"
    (tmp_path / "d.tex").write_text(document % body, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "d.tex"]
    done = subprocess.run(
        command, check=False, cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "d.pdf").stat().st_size > 0
