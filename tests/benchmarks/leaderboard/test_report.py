import re

import pytest
from PIL import Image
from sealed_records import graph_record, transfer_record, write_records

from benchmarks.cli import main
from benchmarks.results.files import write_result
from benchmarks.results.transfers import UNTRAINED


@pytest.fixture
def folder(tmp_path, result_of):
    for student, bonus in (("vit", 0.03), ("resnet18", 0.05)):
        for seed, noise in enumerate((0.0, 0.01, 0.005)):
            for method, top1 in (("d4m", 0.5), ("ddoq", 0.5 + bonus), ("random", 0.497)):
                # Noise is common to all but a thousandth, so that pairs differ a little.
                value = top1 + noise + (0.001 * seed if method == "ddoq" else 0)
                cell = result_of(
                    method=method, student=student, seed=seed, distill_seed=seed, top1=value
                )
                write_result(tmp_path / "results", cell)
    return tmp_path / "results"


def report(folder, output, *more):
    return main(["report", str(folder), "--against", "d4m", "--output", str(output), *more])


def test_it_says_what_the_numbers_say(folder, tmp_path):
    assert report(folder, tmp_path / "out" / "weights.md", "--title", "Weights") == 0
    text = (tmp_path / "out" / "weights.md").read_text()
    assert text.startswith("# Weights\n")
    assert "**ddoq** minus **d4m** is +4.10 points" in text
    assert "better; alone better for 2 of 2 students." in text
    assert "**random** minus **d4m** is -0.30 points" in text
    assert "distillation and student vary (student 0, 1, 2; distillation 0, 1, 2)" in text
    assert re.search(r"\| toy, ipc 10 +\| unified +\| ddoq +\| vit +\| +\+3\.10 ", text)
    assert "## All tables" in text
    assert "### toy, 10 images per class, recipe unified, online labels" in text


def test_figures_lie_beside_it_and_are_named_in_it(folder, tmp_path):
    report(folder, tmp_path / "weights.md")
    text = (tmp_path / "weights.md").read_text()
    for name in ("weights-accuracy.png", "weights-d4m.png"):
        assert f"]({name})" in text
        with Image.open(tmp_path / name) as figure:
            colours = figure.convert("RGB").getcolors(1 << 24)
        assert len(colours) > 20  # something is drawn


def test_equal_results_give_equal_files(folder, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        report(folder, tmp_path / name / "report.md")
    for file in ("report.md", "report-accuracy.png", "report-d4m.png"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_an_unknown_method_is_named_with_the_nearest(folder, tmp_path, capsys):
    assert (
        main(["report", str(folder), "--against", "d4n", "--output", str(tmp_path / "r.md")]) == 2
    )
    message = capsys.readouterr().err
    assert "'d4n'" in message
    assert "d4m" in message
    assert not (tmp_path / "r.md").exists()


def test_an_empty_folder_says_what_to_run(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert report(tmp_path / "empty", tmp_path / "r.md") == 2
    assert "ddoq-bench suite" in capsys.readouterr().err


def test_nothing_in_common_is_an_error(tmp_path, result_of, capsys):
    write_result(tmp_path / "results", result_of(method="d4m", seed=0))
    write_result(tmp_path / "results", result_of(method="ddoq", seed=1))
    assert report(tmp_path / "results", tmp_path / "r.md") == 2
    assert "no seeds in common" in capsys.readouterr().err


def test_a_file_left_out_shows_in_the_status_and_the_text(folder, tmp_path):
    broken = folder / "0123456789abcdef.json"
    broken.write_text("{}")
    assert report(folder, tmp_path / "r.md") == 1
    assert "0123456789abcdef.json" in (tmp_path / "r.md").read_text()


def test_names_in_figures_are_no_formulas_and_no_boxes(tmp_path, result_of, recwarn):
    for seed in (0, 1):
        for method in ("d4m", "a$x^{$ \u732b"):
            write_result(
                tmp_path / "results", result_of(method=method, seed=seed, top1=0.5 + seed / 10)
            )
    assert report(tmp_path / "results", tmp_path / "r.md") == 0
    assert (tmp_path / "r-d4m.png").is_file()
    assert [w for w in recwarn if "Glyph" in str(w.message)] == []


def test_graphs_and_transfer_have_sections_of_their_own(folder, tmp_path):
    before = tmp_path / "before.md"
    assert report(folder, before) == 0
    for seed, noise in enumerate((0.0, 0.01, 0.005)):
        for name, value in (("doscond", 0.6 + noise / 2), ("graph-random", 0.5 + noise)):
            write_records(tmp_path, graph_record(name, seed, value))
        for start, value in (("krr_st", 0.6 + noise / 2), (UNTRAINED, 0.5 + noise)):
            write_records(tmp_path, transfer_record(start, seed, value))
    against = ("d4m", "graph-random", UNTRAINED)
    output = tmp_path / "r.md"
    arguments = ["report", str(tmp_path), "--output", str(output), "--against", *against]
    assert main(arguments) == 0
    text = output.read_text()
    images = before.read_text().split("## All tables")[0].replace("before-", "r-")
    assert text.startswith(images.rstrip("\n"))  # what is said of images does not change
    assert (
        "toy, 10 graphs per class, 500 epochs: **doscond** minus **graph-random** is +9.75" in text
    )
    assert "toy to other, probe: **krr_st** minus **not pre-trained** is +9.75 points" in text
    assert text.index("## Transfer") < text.index("## Graphs") < text.index("## All tables")
    for name in ("r-graphs-accuracy", "r-graphs-graph-random", "r-transfer-not-pre-trained"):
        assert f"({name}.png)" in text
        assert (tmp_path / f"{name}.png").is_file()


def test_of_images_nothing_is_said_where_none_is_compared(folder, tmp_path):
    for seed in (0, 1):
        for name in ("doscond", "graph-random"):
            write_records(tmp_path, graph_record(name, seed, 0.5 + 0.01 * seed))
    arguments = ["report", str(tmp_path), "--output", str(tmp_path / "r.md")]
    assert main([*arguments, "--against", "graph-random"]) == 0
    text = (tmp_path / "r.md").read_text()
    assert "top-1 on the real test" not in text.split("## All tables")[0]
    assert not (tmp_path / "r-accuracy.png").exists()
