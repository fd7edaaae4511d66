"""Make text from files and file names safe to print."""

import os
import re
import unicodedata

# More than the longest path that Linux takes has no use in a sentence.
_LONG_WORD = re.compile(r"(\S{300})\S{4096,}(\S{60})")
_FORMULA_STARTS = tuple("=+-@\t\r\n＝＋－＠")


def printable(text: str) -> str:
    """Return the text with every character escaped that could steer a terminal.

    These are control characters and line breaks, characters that change the direction of text or
    take no space, bytes that are not UTF-8, and code points without a meaning. They are written as
    in Python, such as `\\n` or `\\u202e`, so that nothing of a name is lost.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char.encode("unicode_escape").decode() if _is_unprintable(char) else char for char in text
    )


def shortened(sentence: str) -> str:
    """Shorten words of thousands of characters, so that the sentence around them is seen."""
    return _LONG_WORD.sub(lambda word: f"{word[1]}…{word[2]}", sentence)


def _is_unprintable(char: str) -> bool:
    category = unicodedata.category(char)
    return category[0] == "C" or category in ("Zl", "Zp")


def readable_text(name: str) -> str:
    """Return a name from the operating system as text; bytes that are not UTF-8 become `\\xff`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def no_formula(cell: str) -> str:
    """Return a cell of a CSV file that no spreadsheet takes for a formula.

    A file name or barcode may begin like one (https://owasp.org/www-community/attacks/CSV_Injection).
    Such a cell gets an apostrophe, by which spreadsheets know text.
    """
    return f"'{cell}" if cell.startswith(_FORMULA_STARTS) else cell
