"""Read a number from text that people or other programs wrote."""

import math
import re

NUMERAL = r"(?:(?:[0-9]+(?:[.,][0-9]*)?|[.,][0-9]+)(?:[eE][+-]?[0-9]{1,3})?)"
"""A pattern of a decimal number without a sign, in ASCII. Its point may be a comma."""

_NUMBER = re.compile(rf"[+-]?{NUMERAL}")
# The block of full-width forms repeats ASCII's signs from "!" to "~" in their order.
_ASCII_OF_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}


def read_number(text: str) -> float | None:
    """Return the number that a text consists of, or None.

    A number is a finite decimal number with a point or a comma, such as "12", "-0,25", ".5" or
    "2.5e-3", with or without blanks around it. Its signs may be in full width. A comma is never a
    separator of thousands. What only Python's `float` takes is refused: "nan", "inf", "1_000", and
    the digits of other scripts.
    """
    found = half_width(text).strip()
    if not _NUMBER.fullmatch(found):
        return None
    value = float(found.replace(",", "."))
    return value if math.isfinite(value) else None


def half_width(text: str) -> str:
    """Return the text with its full-width signs in ASCII, as Chinese and Japanese keyboards type.

    Nothing else is changed, unlike by Unicode's normal form, which makes "102" of "10²".
    """
    return text.translate(_ASCII_OF_FULL_WIDTH)
