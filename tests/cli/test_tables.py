"""Listings: names are whole on one line at any width, and nothing is lost unnamed."""

import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from fcntl import ioctl

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from her2d.cli.tables import Column, Listing, fields

COLUMNS = (
    Column("id", drop=2, right=True),
    Column("slide", is_name=True),
    Column("HER2"),
    Column("tumour tiles", drop=1, right=True),
    Column("remark", is_sentence=True),
)
STYLES = re.compile(r"\x1b\[[\d;]*m")

# What a file may be called, less what is printed as an escape.
NAMES = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), min_size=1).map(
    "{}.tif".format
)
WORDS = st.text("abcdefghij/.胃癌", min_size=1, max_size=30)
ROWS = st.lists(
    st.tuples(
        st.integers(1, 10**6).map(str),
        NAMES,
        st.sampled_from(["positive", "negative", "indeterminate"]),
        st.sampled_from(["", "12 of 30", "1234 of 12345"]),
        st.lists(WORDS, max_size=12).map(" ".join),
    ),
    min_size=1,
    max_size=5,
)


def listed(rows, columns=COLUMNS, **options) -> Listing:
    listing = Listing(*columns, **options)
    for row in rows:
        listing.add(*row)
    return listing


def on_terminal(listing: Listing, width: int, **options: str) -> list[str]:
    file = io.StringIO()
    listing.print(Console(file=file, force_terminal=True, width=width), **options)
    return STYLES.sub("", file.getvalue()).splitlines()


def in_pipe(listing: Listing) -> list[str]:
    file = io.StringIO()
    listing.print(Console(file=file, width=20))
    return file.getvalue().splitlines()


@given(ROWS, st.integers(1, 200))
def test_each_name_is_whole_on_one_line_at_any_width(rows, width):
    printed = on_terminal(listed(rows), width)
    for _, name, *_ in rows:
        assert any(name in line for line in printed)


@given(ROWS)
def test_each_name_is_whole_on_one_line_in_a_pipe(rows):
    heading, *lines = in_pipe(listed(rows))
    assert len(lines) == len(rows)
    for line, (number, name, status, tiles, remark) in zip(lines, rows, strict=True):
        assert line.startswith(number.rjust(line.index(number) + len(number)))
        assert name in line
        assert status in line
        assert (tiles or "-") in line
        assert line.endswith((remark or "-").rstrip())
    assert heading.split() == ["id", "slide", "HER2", "tumour", "tiles", "remark"]


@given(ROWS, st.integers(40, 200))
def test_only_names_and_words_that_are_longer_make_a_line_longer_than_the_terminal(rows, width):
    names = [cell_len(name) for _, name, *_ in rows]
    words = [len("    ") + cell_len(word) for *_, remark in rows for word in remark.split(" ")]
    for line in on_terminal(listed(rows), width):
        assert cell_len(line) <= max(width, *names, *words)


@given(ROWS, st.integers(1, 200))
def test_columns_that_are_not_shown_are_named_and_all_others_are_printed(rows, width):
    printed = " ".join(" ".join(on_terminal(listed(rows), width)).split())
    not_shown = printed.partition("Not shown at this width: ")[2]
    for _, _, status, tiles, remark in rows:
        assert status in printed
        assert tiles in printed or "tumour tiles" in not_shown
        assert all(word in printed for word in remark.split())


NAME = "2026-11-27_gastric_biopsy_patient_000012345_rescan_B.tif"
SHORT = [
    ("7", "gastric-001.tif", Text("positive", "bold red"), "12 of 30", "borderline"),
    ("8", "胃癌-0042.tif", Text("indeterminate", "yellow"), "", "No tumour was found in any tile."),
]


def test_at_120_columns_everything_is_side_by_side():
    assert on_terminal(listed(SHORT), 120) == [
        "id  slide            HER2           tumour tiles  remark",
        "─" * 82,
        " 7  gastric-001.tif  positive           12 of 30  borderline",
        " 8  胃癌-0042.tif    indeterminate                No tumour was found in any tile.",
    ]


def test_at_60_columns_sentences_go_beneath_their_row():
    assert on_terminal(listed(SHORT), 60) == [
        "id  slide            HER2           tumour tiles",
        "─" * 48,
        " 7  gastric-001.tif  positive           12 of 30",
        "    remark: borderline",
        " 8  胃癌-0042.tif    indeterminate",
        "    remark: No tumour was found in any tile.",
    ]


def test_a_sentence_is_wrapped_where_there_is_room_beside_its_row():
    printed = on_terminal(listed(SHORT), 70)
    assert printed[-2:] == [
        " 8  胃癌-0042.tif    indeterminate                No tumour was found",
        "                                                  in any tile.",
    ]


def test_columns_that_do_not_fit_are_left_out_in_their_order_and_named():
    rows = [("7", NAME, "positive", "12 of 30", "borderline")]
    assert on_terminal(listed(rows), 79) == [
        f"id  {'slide':{len(NAME)}}  HER2",
        "─" * 70,
        f" 7  {NAME}  positive",
        "    remark: borderline",
        "Not shown at this width: tumour tiles; use --json or a wider terminal.",
    ]
    assert on_terminal(listed(rows), 60, wider="a wider terminal") == [
        "slide",
        "─" * len(NAME),
        NAME,
        "    HER2: positive",
        "    remark: borderline",
        "Not shown at this width: id, tumour tiles; use a wider",
        "terminal.",
    ]


def test_a_name_longer_than_the_terminal_makes_its_line_longer():
    name = f"{NAME}{NAME}"
    printed = on_terminal(listed([("7", name, "positive", "12 of 30", "")]), 60)
    assert printed[2:4] == [name, "    HER2: positive"]


def test_a_pipe_has_neither_colours_nor_lines_and_a_dash_for_an_empty_cell():
    assert in_pipe(listed(SHORT)) == [
        "id  slide            HER2           tumour tiles  remark",
        " 7  gastric-001.tif  positive           12 of 30  borderline",
        " 8  胃癌-0042.tif    indeterminate             -  No tumour was found in any tile.",
    ]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\nb.tif", r"a\nb.tif"),
        ("\x1b[31m.tif", r"\x1b[31m.tif"),
        ("a\u2028.tif", r"a\u2028.tif"),
        ("\u202egnp.tif", r"\u202egnp.tif"),  # reads as fit.png in a terminal
        ("a\u200b.tif", r"a\u200b.tif"),
        ("a\x9b31m.tif", r"a\x9b31m.tif"),
        ("a\udcff.tif", r"a\udcff.tif"),
    ],
)
def test_a_name_cannot_break_its_line_or_control_the_terminal(name, shown):
    listing = listed([(name,)], [Column("slide", is_name=True)])
    assert on_terminal(listing, 80)[-1] == shown
    assert in_pipe(listing)[-1] == shown


def test_brackets_and_colons_are_printed_as_they_are():
    name = "[bold]a[/] :warning:.tif"
    assert on_terminal(listed([(name,)], [Column("slide", is_name=True)]), 80)[-1] == name


def test_fields_are_a_line_each_with_their_values_whole():
    path = "/data/" + "x" * 90 + " y.tif"
    assert on_terminal(fields([("path", path), ("tiles", "30")], title=NAME), 60) == [
        NAME,
        f"path   {path}",
        "tiles  30",
    ]


def test_a_sentence_among_fields_is_wrapped_between_words_on_a_terminal_only():
    sentence = "The interval holds in 95 of 100 slides of 12 345."
    found = fields([("id", "7"), ("meaning", sentence)], sentences={"meaning"})
    assert on_terminal(found, 40) == [
        "id       7",
        "meaning  The interval holds in 95 of 100",
        "         slides of 12 345.",
    ]
    assert in_pipe(found) == ["id       7", f"meaning  {sentence}"]


def test_a_title_is_wrapped_between_words_on_a_terminal_only():
    found = fields([("id", "7")], title="Slides by status: a 1 (rows) and b 2 (columns)")
    assert on_terminal(found, 30)[:2] == ["Slides by status: a 1 (rows)", "and b 2 (columns)"]
    assert in_pipe(found)[0] == "Slides by status: a 1 (rows) and b 2 (columns)"


def test_a_row_must_have_a_cell_for_each_column():
    with pytest.raises(ValueError, match="1 cells for 5 columns"):
        Listing(*COLUMNS).add("a.tif")


def test_on_a_real_terminal_of_80_columns_names_are_whole(laboratory, write_slide):
    laboratory.run("scan", write_slide(["Sw"], NAME))
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = [sys.executable, "-m", "her2d", "results"]
    command += ["--config", str(laboratory.folder / "config.toml")]
    environment = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
    with subprocess.Popen(command, stdout=theirs, env={**environment, "TERM": "xterm"}) as process:
        os.close(theirs)
        printed = b""
        while data := read(ours):
            printed += data
    os.close(ours)
    assert process.returncode == 0
    lines = STYLES.sub("", printed.decode()).splitlines()
    assert sum(NAME in line for line in lines) == 1
    assert max(map(len, lines)) <= 80


def read(terminal: int) -> bytes:
    """What was printed, nothing once the program at the other end is over (Linux reports EIO)."""
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""
