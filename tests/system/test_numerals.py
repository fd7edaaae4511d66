"""Which texts are numbers."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from her2d.system.numerals import half_width, read_number

finite = st.floats(allow_nan=False, allow_infinity=False)
FULL_WIDTH = {ord(sign): ord(sign) + 0xFEE0 for sign in "0123456789.,+-eE"}


@given(finite)
def test_every_finite_number_reads_back_as_python_writes_it(value):
    assert read_number(repr(value)) == value


@given(finite)
def test_a_comma_may_be_a_numbers_point(value):
    assert read_number(repr(value).replace(".", ",")) == value


@given(finite)
def test_a_number_may_be_written_in_full_width(value):
    assert read_number(repr(value).translate(FULL_WIDTH)) == value


@given(finite, st.text(" \t\r\n\u3000\u00a0", max_size=3), st.text(" \n", max_size=3))
def test_blanks_around_a_number_do_not_matter(value, before, after):
    assert read_number(f"{before}{value!r}{after}") == value


@given(st.text("0123456789+-.,eE_ naift٣²", max_size=8) | st.text(max_size=4))
def test_what_is_read_is_finite_and_what_python_reads_with_a_point(text):
    value = read_number(text)
    if value is not None:
        assert math.isfinite(value)
        assert value == float(half_width(text).strip().replace(",", "."))


@given(st.integers(), st.characters(categories=["Nd", "No", "Nl"]))
def test_digits_of_another_script_are_refused(before, digit):
    is_read = digit.isascii() or digit in "０１２３４５６７８９"
    assert (read_number(f"{before}{digit}") is not None) == is_read


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12),
        ("+12", 12),
        ("12.", 12),
        (".5", 0.5),
        ("-0,25", -0.25),
        ("007", 7),
        ("1E3", 1000),
    ],
)
def test_a_number_is_read_as_people_write_it(text, value):
    assert read_number(text) == value


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "nan", "inf", "-Infinity", "1e400", "1_000", "1,234,5", "1.234,5", "1 000"),
        *("٣", "१२", "²", "½", "10²", ".", "e5", "--1", "1e", "0x10", "20x", "about 60", "5%"),
    ],
)
def test_anything_else_is_not_a_number(text):
    assert read_number(text) is None


@given(st.text())
def test_half_width_changes_nothing_but_full_width_signs(text):
    assert all(
        one == other or (0xFF01 <= ord(one) <= 0xFF5E and other.isascii())
        for one, other in zip(text, half_width(text), strict=True)
    )
