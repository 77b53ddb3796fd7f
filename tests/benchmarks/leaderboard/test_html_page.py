import base64
import hashlib
import io
import itertools
import json
import random
import re
from html.parser import HTMLParser

import pytest
from PIL import Image

from benchmarks.leaderboard.html_page import heat, page, settings, sheets, split
from benchmarks.tables.folding import fold
from benchmarks.tables.groups import group
from ddoq.storage.files import write_json
from ddoq.storage.fingerprints import hash_config

EVIL = "<script>window.pwned=1</script><img src=x onerror=pwned()>\"'&{{ 7*7 }}"
VOID = {"meta", "link", "img", "br", "input"}


class Document(HTMLParser):
    """Elements with attributes, text, and the ids of the sections around each."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open = [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        element = {"tag": tag, "attrs": dict(attrs), "text": "", "within": list(self.open)}
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.elements.append({"tag": tag, "attrs": dict(attrs), "text": "", "within": []})

    def handle_endtag(self, tag):
        assert self.open, tag
        assert self.open.pop()["tag"] == tag

    def handle_data(self, data):
        for element in self.open:
            element["text"] += data

    def all(self, tag):
        return [element for element in self.elements if element["tag"] == tag]


@pytest.fixture
def results(result_of):
    return [
        result_of(method=m, student=s, ipc=i, seed=seed, top1=a + seed / 50)
        for m, a in (("ddoq", 0.5), ("random", 0.4))
        for s in ("resnet18", "vit")
        for i in (1, 10)
        for seed in (0, 1)
    ]


def test_the_page_is_whole_and_asks_the_network_for_nothing(results, tmp_path):
    text = page(results, tmp_path)
    document = Document(text)
    assert text.startswith("<!doctype html>")
    assert document.open == []
    for element in document.elements:
        for name, value in element["attrs"].items():
            assert not name.startswith("on")
            if name in ("href", "src", "srcset", "action"):
                assert value.startswith(("#", "data:"))
    style = document.all("style")[0]["text"]
    assert "@import" not in style
    assert "url(" not in style


def test_the_policy_names_the_pages_own_script_and_style(results, tmp_path):
    document = Document(page(results, tmp_path))
    policy = next(e["attrs"]["content"] for e in document.all("meta") if "http-equiv" in e["attrs"])
    assert "default-src 'none'" in policy
    for tag in ("script", "style"):
        (element,) = document.all(tag)
        digest = hashlib.sha256(element["text"].encode()).digest()
        assert f"{tag}-src 'sha256-{base64.b64encode(digest).decode()}'" in policy
    assert not [e for e in document.elements if "style" in e["attrs"]]


def test_tables_have_captions_scopes_and_links_that_lead_somewhere(results, tmp_path):
    document = Document(page(results, tmp_path))
    ids = [e["attrs"]["id"] for e in document.elements if "id" in e["attrs"]]
    assert len(ids) == len(set(ids))
    assert len(document.all("caption")) == len(document.all("table")) > 5
    assert all(th["attrs"]["scope"] in ("row", "col") for th in document.all("th"))
    for element in document.elements:
        attributes = element["attrs"]
        if attributes.get("href", "").startswith("#"):
            assert attributes["href"][1:] in ids
        for reference in attributes.get("aria-labelledby", "").split():
            assert reference in ids
    for select in document.all("select"):
        assert any(around["tag"] == "label" for around in select["within"])
    assert document.all("html")[0]["attrs"]["lang"] == "en"
    levels = [int(e["tag"][1]) for e in document.elements if re.fullmatch("h[1-6]", e["tag"])]
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))


def test_numbers_are_those_of_the_folded_tables(results, tmp_path):
    document = Document(page(results, tmp_path))
    cells = [td["text"] for td in document.all("td")]
    for table in fold(results):
        for row in table.rows:
            assert all(cells.count(row.score(c).percent()) >= 2 for c in table.columns)
    assert "student varies (student 0, 1; distillation 0)" in cells


def test_names_never_become_markup(result_of, tmp_path):
    result = result_of(
        method=EVIL,
        student=EVIL,
        recipe_label=EVIL,
        data={"name": EVIL, "limit_per_class": EVIL, "source": EVIL},
        settings={EVIL: EVIL},
        recipe={"labels": EVIL},
    )
    other = result_of(method=EVIL, student=EVIL, recipe_label=EVIL, data={"name": EVIL})
    document = Document(page([result, other, result_of(student="x")], tmp_path, [EVIL]))
    assert len(document.all("script")) == 1
    assert document.all("img") == []
    assert EVIL in [e["text"] for e in document.all("li")]
    assert any(EVIL in th["text"] for th in document.all("th"))
    assert EVIL in [option["attrs"]["value"] for option in document.all("option")]
    assert any(EVIL in pre["text"] for pre in document.all("pre")) is False  # JSON escapes quotes
    assert any("onerror=pwned()" in pre["text"] for pre in document.all("pre"))


def test_characters_without_an_encoding_do_not_stop_it(result_of, tmp_path):
    # A file name that is not UTF-8 reaches messages as lone surrogates.
    assert "<li>x?.json was left out</li>" in page(
        [result_of()], tmp_path, ["x\udcff.json was left out"]
    )


def test_bytes_do_not_depend_on_the_order(results, tmp_path):
    texts = set()
    for turn in range(4):
        random.Random(turn).shuffle(results)
        texts.add(page(results, tmp_path))
    assert len(texts) == 1


def test_every_row_links_to_its_configuration(results, tmp_path):
    document = Document(page(results, tmp_path))
    links = [a["attrs"]["href"][1:] for a in document.all("a") if a["text"] == "show"]
    shown = {pre["attrs"]["id"]: json.loads(pre["text"]) for pre in document.all("pre")}
    assert sorted(links) == sorted(shown)
    assert len(links) == 4
    files = [entry["file"] for content in shown.values() for entry in content["results"]]
    assert sorted(files) == sorted(f"{result.config_hash}.json" for result in results)
    for pre in document.all("pre"):
        assert any(around["tag"] == "details" for around in pre["within"])


def joined(shared, own):
    both = dict(shared)
    for key, value in own.items():
        both[key] = joined(both.get(key, {}), value) if isinstance(value, dict) else value
    return both


def test_shared_and_own_values_make_up_each_configuration(result_of):
    results = [result_of(seed=s, distill_seed=d) for s in (0, 1) for d in (0, 1)]
    ((row,),) = (table.rows for table in fold(results))
    content = json.loads(settings(row))
    assert set(content["results"][1]["config"]) <= {"seed", "distilled"}
    for entry in content["results"]:
        config = joined(content["shared"], entry["config"])
        assert f"{hash_config(config)}.json" == entry["file"]


@pytest.mark.parametrize(
    "items",
    [
        [{"a": {}}, {"a": {}}],
        [{"a": {"b": 1}}, {"a": None}],
        [{"a": 1}, {}],
        [{"a": {"b": {"c": 1, "d": [1]}}}, {"a": {"b": {"c": 1, "d": [2]}}}],
        [{"a": {"b": 1}}, {"a": {"c": 1}}],
    ],
)
def test_splitting_loses_nothing(items):
    shared, own = split(items)
    assert [joined(shared, rest) for rest in own] == items


def test_shades_run_from_the_lowest_to_the_highest(result_of):
    values = {("a", "x"): 0.0, ("a", "y"): 0.5, ("b", "x"): 1.0, ("b", "y"): 0.25}
    results = [result_of(method=m, student=s, top1=v) for (m, s), v in values.items()]
    results.append(result_of(method="c", student="x", top1=0.5))
    (only,) = group(results)
    shades = {
        (label, student): None if cell is None else (cell.text, cell.shade)
        for label, _, cells in heat(only)
        for student, cell in zip(only.whole.columns, cells, strict=True)
    }
    assert shades == {
        ("a", "x"): ("0.0", 0),
        ("a", "y"): ("50.0", 5),
        ("b", "x"): ("100.0", 9),
        ("b", "y"): ("25.0", 2),
        ("c", "x"): ("50.0", 5),
        ("c", "y"): None,
    }
    (flat,) = group([result_of(student=s) for s in ("x", "y")])
    assert [[cell.shade for cell in cells] for _, _, cells in heat(flat)] == [[5, 5]]


def test_a_plot_per_student_with_the_teacher_as_ceiling(results, tmp_path):
    document = Document(page(results, tmp_path))
    charts = [svg for svg in document.all("svg") if svg["attrs"].get("role") == "img"]
    assert len(charts) == 2
    assert all("ddoq, 10 images per class: 51.0 ± 1.4 (n=2)" in svg["text"] for svg in charts)
    assert len([e for e in document.all("line") if e["attrs"].get("class") == "ceiling"]) == 2
    legend = [li["text"] for li in document.all("li")]
    assert " ceiling: teacher trained on the real images, convnet3: 97.22 %" in legend


def test_published_numbers_stand_apart(result_of, tmp_path):
    ours = [result_of(method=m, data={"name": "cifar10"}) for m in ("ddoq", "cv-dd")]
    document = Document(page(ours, tmp_path))

    def published(element):
        return any(around["attrs"].get("id") == "published" for around in element["within"])

    tables = {True: "", False: ""}
    for table in document.all("table"):
        tables[published(table)] += table["text"]
    assert "sre2l++" in tables[True]
    assert "second-hand" in tables[True]
    assert "21.3 ± 0.6" in tables[True]  # deviations, where their source gives them
    assert "unified [" not in tables[True]
    assert "sre2l++" not in tables[False]
    assert "50.0 (n=1)" in tables[False]
    opened = [d["text"].split()[0] for d in document.all("details") if "open" in d["attrs"]]
    assert opened == ["cifar10"]


def test_missing_random_selection_and_left_out_files_are_told(result_of, tmp_path):
    text = page([result_of()], tmp_path, ["x.json was left out"])
    assert text.count("Random selection is missing") == 1
    assert "<li>x.json was left out</li>" in text
    assert "images per class and recipe.</p>" in text
    learned = page([result_of(recipe_label="frepo", recipe={"labels": "set"})], tmp_path)
    assert "images per class, and the recipe with <code>labels: hard</code>" in learned
    text = page([result_of(), result_of(method="random")], tmp_path)
    assert "Random selection is missing" not in text
    assert "Left out" not in text


def sheet(folder, fingerprint, size=(40, 30), noise=False):
    folder.mkdir(parents=True)
    write_json(folder / "metadata.json", {"fingerprint": fingerprint})
    image = Image.effect_noise(size, 90).convert("RGB") if noise else Image.new("RGB", size, "red")
    image.save(folder / "images.png")


def decoded(address):
    return Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))


def test_pictures_are_found_beside_results_by_fingerprint(result_of, tmp_path):
    runs = tmp_path / "runs"
    results = [result_of(), result_of(method="random")]
    sheet(runs / "distilled" / "one", "ddoq-0")
    sheet(runs / "distilled" / "two", "of something else")
    (runs / "results").mkdir()
    for folder in (runs, runs / "results"):
        found = sheets(results, folder)
        assert list(found) == ["ddoq-0"]
        assert decoded(found["ddoq-0"]).size == (40, 30)
    (image,) = Document(page(results, runs)).all("img")
    assert image["attrs"]["src"] == found["ddoq-0"]
    assert image["attrs"]["alt"].startswith("Images distilled by ddoq, 10 per class")


def test_large_pictures_are_reduced_and_broken_ones_left_out(result_of, tmp_path):
    sheet(tmp_path / "a", "ddoq-0", (1500, 1000), noise=True)
    sheet(tmp_path / "b", "random-0")
    (tmp_path / "b" / "images.png").write_bytes(b"<script>")
    sheet(tmp_path / "c", "d4m-0")
    (tmp_path / "c" / "metadata.json").write_text("[1")
    for folder, width in (
        ("d", 10_000),
        ("e", 20_000),
    ):  # 13 kB that ask for 100 and 400 million pixels
        sheet(tmp_path / folder, f"{folder}-0")
        Image.new("1", (width, width)).save(tmp_path / folder / "images.png")
    results = [result_of(method=m) for m in ("ddoq", "random", "d4m", "d", "e")]
    found = sheets(results, tmp_path)
    assert list(found) == ["ddoq-0"]
    assert decoded(found["ddoq-0"]).size == (900, 600)
    assert len(found["ddoq-0"]) < (tmp_path / "a" / "images.png").stat().st_size


def test_the_ceiling_stands_beneath_the_table_and_as_a_line(results, result_of, tmp_path):
    full = [result_of(method="full", ipc=40, seed=seed, top1=0.9 + seed / 50) for seed in (0, 1)]
    document = Document(page([*results, *full], tmp_path))
    feet = [row["text"] for foot in document.all("tfoot") for row in [foot]]
    assert len(feet) == 2  # at 1 and at 10 images per class
    assert all("full (ceiling)" in foot and "91.0 ± 1.4 (n=2)" in foot for foot in feet)
    lines = [e for e in document.all("line") if e["attrs"].get("class") == "full"]
    assert len(lines) == 1  # the vit has not seen all images
    captions = [caption["text"] for caption in document.all("figcaption")]
    assert "resnet18 full, all training images (up to 40 per class): 91.0 ± 1.4 (n=2)" in captions
    assert "vit" in captions
    assert any("trained on all real images, full" in li["text"] for li in document.all("li"))
    headings = [h["text"] for h in document.all("h3")]
    assert "toy, all training images (up to 40 per class)" in headings
    assert "Random selection is missing" not in page([*results, *full], tmp_path)
    (only,) = group([*results, *full])
    assert "full" not in {label for label, _, _ in heat(only)}


def test_intervals_scores_and_ranks_are_tables_where_they_apply(results, result_of, tmp_path):
    plain = Document(page([result_of(), result_of(method="random")], tmp_path))
    captions = [caption["text"] for caption in plain.all("caption")]
    assert not [text for text in captions if "95 %" in text or "Robust" in text or "Rank" in text]
    hard = {"recipe_label": "hard", "recipe": {"labels": "hard"}}
    more = [result_of(method=m, **hard) for m in ("ddoq", "random")]
    more.append(result_of(method="full", ipc=40, top1=0.9, **hard))
    document = Document(page([*results, *more], tmp_path))
    captions = [caption["text"] for caption in document.all("caption")]
    for start in ("95 % intervals", "Robust scores: toy", "Rank stability: toy", "Agreement of"):
        assert any(text.startswith(start) for text in captions), start
    links = {a["attrs"]["href"] for a in document.all("a")}
    assert {"#robust", "#stable"} <= links
    # Two results that differ by 2 points: 1 degree of freedom, 12.706 * 1.
    assert "38.3 to 63.7" in [td["text"] for td in document.all("td")]
