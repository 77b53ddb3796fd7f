import csv
import io

import pytest

from ddoq.escaping import csv_cell, csv_text, markdown, markdown_table

EVIL = "a|b\\|c\nd<script>alert(1)</script>&lt;![x](http://x)\x00\x1b\u202e\udce9 \u732b"


def test_markdown_shows_what_was_meant():
    line = markdown(EVIL)
    assert "<" not in line
    assert "](" not in line
    assert "&amp;lt;" in line
    assert line.isprintable()
    assert line.endswith(" \u732b")
    line.encode("utf-8")


@pytest.mark.parametrize(
    "text",
    ["p < 0.001", "ddoq [weight_power=0.5]", "51.0 \u00b1 1.4 (n=2)", "R&D", "**d4m**: -1.5"],
)
def test_ordinary_texts_stay_what_they_are(text):
    assert markdown(text) == text


def test_a_cell_never_becomes_two():
    lines = markdown_table(["a", EVIL], [[EVIL, "x\\"], ["\\|", 1.5]]).splitlines()
    assert len(lines) == 4
    for line in lines:
        unescaped, escaped = 0, False
        for letter in line:  # a backslash takes the next letter with it, as GitHub reads tables
            unescaped += letter == "|" and not escaped
            escaped = letter == "\\" and not escaped
        assert unescaped == 3


FORMULAS = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", " =1", "\r\n@x"]


@pytest.mark.parametrize("text", FORMULAS)
def test_formulas_become_text(text):
    assert csv_cell(text) == f"'{text}"


@pytest.mark.parametrize("value", [-1.5, None, 3, True, "-1.5", "+2e-3", "-inf", "a=b", "", "'=1"])
def test_numbers_and_other_texts_stay(value):
    assert csv_cell(value) == value


def test_records_can_be_read_back():
    lines = [{"name": text, "value": -1.5} for text in (*FORMULAS, "caf\udce9")]
    text = csv_text(lines)
    text.encode("utf-8")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["value"] for row in rows] == ["-1.5"] * len(lines)
    assert [row["name"] for row in rows] == [f"'{text}" for text in FORMULAS] + ["caf?"]
