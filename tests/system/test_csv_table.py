"""CSV files that people write with a spreadsheet."""

import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st

from her2d.system.csv_table import TableError, read_table

CELL = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8).map(str.strip)


@given(st.lists(st.tuples(CELL, CELL), max_size=6), st.sampled_from(",;\t"))
def test_what_a_spreadsheet_writes_is_read_back(tmp_path_factory, rows, delimiter):
    path = tmp_path_factory.mktemp("table") / "a.csv"
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file, delimiter=delimiter).writerows([("One", "two"), *rows])
    table = read_table(path, known=["one"], required=["one"])
    assert list(table.columns) == ["one", "two"]
    filled = [row for row in rows if any(row)]
    assert [(row.cells["one"], row.cells["two"]) for row in table.rows] == filled
    assert not any(row.has_surplus for row in table.rows)


def test_a_row_is_named_by_its_line(tmp_path):
    (tmp_path / "a.csv").write_text('one,two\n\n,,\n"a\nb",c\nd,e,f\n')
    first, second = read_table(tmp_path / "a.csv", known=[], required=[]).rows
    assert (first.line, first.cells) == (5, {"one": "a\nb", "two": "c"})
    assert (second.line, second.has_surplus) == (6, True)


@pytest.mark.parametrize("other", ["stage (I;II)", "a\tb", '"a;b"'])
def test_a_name_may_hold_what_separates_columns_elsewhere(tmp_path, other):
    (tmp_path / "a.csv").write_text(f"one,{other},two\n1,2,3\n")
    (row,) = read_table(tmp_path / "a.csv", known=[], required=["one", "two"]).rows
    assert (row.cells["one"], row.cells["two"]) == ("1", "3")


def test_text_in_a_column_without_a_name_is_surplus(tmp_path):
    (tmp_path / "a.csv").write_text("one,,\na,,\nb,c,\n")
    rows = read_table(tmp_path / "a.csv", known=[], required=[]).rows
    assert [row.has_surplus for row in rows] == [False, True]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "the column 'one' is missing. The first line must name the columns"),
        ("two\n", "the column 'one' is missing"),
        ("one,ONE\n", "the column 'one' is there twice"),
        ('one\n"a', "cannot be read"),
    ],
)
def test_what_is_not_such_a_table_is_refused(tmp_path, content, sentence):
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(TableError, match=f"a.csv.*{sentence}"):
        read_table(tmp_path / "a.csv", known=["one"], required=["one"])


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(TableError, match=r"none\.csv cannot be read: No such file"):
        read_table(tmp_path / "none.csv", known=[], required=[])
