"""Cells that spreadsheets open hold text and numbers, never formulas."""

from __future__ import annotations

import csv
import io

import pytest

from core.csv_cells import csv_lines, safe_cell


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "=cmd|' /C calc'!A0", "\0=1", "-2+3"]
)
def test_text_that_begins_as_a_formula_does_gets_an_apostrophe(text: str) -> None:
    assert safe_cell(text) == "'" + text.replace("\0", "")


@pytest.mark.parametrize("value, cell", [(-5, "-5"), (-0.5, "-0.5"), (None, ""), ("a=b", "a=b"), ("a\0b", "ab"),
                                         (True, "True"), ("", "")])  # fmt: skip
def test_numbers_and_other_text_stay_as_they_are(value: object, cell: str) -> None:
    assert safe_cell(value) == cell


def test_a_cell_with_separators_and_quotes_is_one_cell_and_begins_no_other() -> None:
    text = csv_lines([['a","=1+1', "b\r\n=2", 'c",=3', "d;=4"]])
    assert list(csv.reader(io.StringIO(text, newline=""))) == [['a","=1+1', "b\r\n=2", 'c",=3', "d;=4"]]
    assert text == '"a"",""=1+1","b\r\n=2","c"",=3","d;=4"\r\n'
