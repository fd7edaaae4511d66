"""A file's text takes little time and memory, however long it is and whatever it repeats."""

import importlib
import pkgutil
import re
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import her2d.slides
from her2d.slides import page_text
from her2d.slides.description import decode_description
from her2d.slides.errors import SlideError
from her2d.slides.integrity import Completeness, check_integrity
from her2d.slides.leica import read_leica
from her2d.slides.metadata import (
    barcodes_differ,
    count_values,
    read_description,
    read_fields,
    recorded_barcode,
)
from her2d.slides.ome import read_ome
from her2d.slides.page_text import name_within, read_statement
from her2d.slides.reader import open_slide
from her2d.slides.xml_elements import MOST_CHARACTERS, read_elements

LONG = 20_000  # a quadratic pattern takes seconds for it, a linear one milliseconds
MOST_S = 0.25  # of the thread's own time
BEHIND_A_BOUND = {page_text: 1024}  # modules that cut a text before they match it

STARTS = [
    *("", "Motic V1.0.0\n", "MPP = 1", "MPP = 1 nm", "AppMag = 2", "Objective = 20", "Barcode = 1"),
    *("10x10 [0,0 10x10]", "level=0", "macro", "OverlapsXY", "OverlapX", "imagej=1\nunit=m", "->"),
]
REPEATED = [
    *("\n", "\r", "\r\n", ";", "|", " ", "\t", "\0", "\u00a0", "\u202e", "a", "0", "_", "-", "é"),
    *(",", ".", "=", ":", "/", "x", "[", "<", '"', "a ", "a-", "a=", "0.", "0x", "=1", "1x", " |"),
]
ENDS = ["", "!"]


def patterns() -> Iterator[tuple[str, re.Pattern[Any], int]]:
    """Generate every compiled pattern of her2d.slides, and how long a text it can meet."""
    for found in pkgutil.walk_packages(her2d.slides.__path__, "her2d.slides."):
        try:
            module = importlib.import_module(found.name)
        except ModuleNotFoundError:
            continue  # of a format whose library is not installed
        for name, value in vars(module).items():
            values = value.values() if isinstance(value, dict) else [value]
            for one in values:
                if isinstance(one, re.Pattern):
                    yield f"{found.name}.{name}", one, BEHIND_A_BOUND.get(module, LONG)


PATTERNS = list(patterns())


def long_texts(length: int) -> Iterator[str]:
    for start in STARTS:
        for repeated in REPEATED:
            for end in ENDS:
                yield start + repeated * (length // len(repeated)) + end


def slowest(function: Callable[[str], object], texts: Iterator[str]) -> tuple[float, str]:
    """Return the longest time that a function takes for a text, and the text's beginning."""
    found = (0.0, "")
    for text in texts:
        began = time.thread_time()
        function(text)
        found = max(found, (time.thread_time() - began, text[:40] + "…" + text[-5:]))
        if found[0] > MOST_S:
            break
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pattern", "length"), [(p, n) for _, p, n in PATTERNS], ids=[name for name, _, _ in PATTERNS]
)
def test_every_pattern_takes_time_in_proportion_to_the_text(
    pattern: re.Pattern[Any], length: int
) -> None:
    def search(text: str) -> None:
        one: Any = text.encode() if isinstance(pattern.pattern, bytes) else text
        for _ in pattern.finditer(one):
            pass
        pattern.fullmatch(one)

    took, text = slowest(search, long_texts(length))
    assert took <= MOST_S, text


@pytest.mark.parametrize("repeated", REPEATED)
@pytest.mark.parametrize(
    "function",
    [
        *(read_description, read_fields, read_statement, name_within, count_values),
        *(recorded_barcode, read_ome, read_leica),
        lambda text: barcodes_differ("S1", text),
        lambda text: decode_description(text.encode() + b"\xff", count_values),
    ],
    ids=lambda function: function.__name__,
)
def test_a_text_that_repeats_one_thing_takes_little_time(
    function: Callable[[str], object], repeated: str
) -> None:
    texts = (f"{start}{repeated * (LONG // len(repeated))}!" for start in ("", "Motic\nMPP = 1 m"))
    took, text = slowest(function, texts)
    assert took <= MOST_S, text


def test_what_a_long_description_states_at_its_beginning_is_read(
    picture: Callable[..., NDArray[np.uint8]], write: Callable[..., Path]
) -> None:
    text = "Motic V1.0.0\n|AppMag = 4|MPP = 2.5|Barcode = S-1|" + "\n" * 500_000
    with open_slide(write(picture(), description=text)) as slide:
        assert (slide.metadata.magnification, slide.metadata.barcode) == (4.0, "S-1")


OME = "<OME><Image Name='a'><Pixels SizeX='7' SizeY='5'><TiffData IFD='0'/></Pixels></Image>"


@pytest.mark.parametrize(
    "filling",
    ["<a/>", "<a>", "<Image/>", "<Image>", "<a b='c'/>", "text ", "&lt;", "<!-- -->", "<Pixels/>"],
)
def test_xml_of_any_kind_takes_bounded_memory(filling: str) -> None:
    count = (MOST_CHARACTERS // 4) // len(filling)
    closing = ""
    if re.fullmatch(r"<\w+>", filling):
        closing = filling.replace("<", "</") * count
    text = OME + filling * count + closing + "</OME>"
    tracemalloc.start()
    try:
        found = read_ome(text)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 * len(text)
    assert not found or (found[0].name, found[0].size) == ("a", (7, 5))


def test_xml_over_the_bound_is_not_parsed() -> None:
    assert read_elements(f"<OME>{' ' * MOST_CHARACTERS}</OME>", ["Image"]) is None


def test_elements_below_one_that_is_not_asked_for_are_left_out() -> None:
    text = "<x:OME xmlns:x='u'><S><Image Name='no'/></S><x:Image Name='yes'/></x:OME>"
    root = read_elements(text, ["Image"])
    assert root is not None
    assert [(child.tag, child.get("Name")) for child in root] == [("Image", "yes")]


@pytest.mark.parametrize("kind", [1, 2, 7], ids=["BYTE", "ASCII", "UNDEFINED"])
def test_a_description_that_no_scanner_writes_is_refused_before_it_is_read(
    kind: int,
    picture: Callable[..., NDArray[np.uint8]],
    write: Callable[..., Path],
    retag: Callable[..., Path],
) -> None:
    text = f"<OME>{'<Image/>' * (28 * 2**20 // 8)}</OME>".encode()
    path = retag(write(picture(64, 64)), {270: (kind, len(text), text)})
    checked = check_integrity(path)
    assert checked.completeness is Completeness.BROKEN
    assert checked.reason is not None
    assert checked.reason.startswith("has a description (tag 270) of 28 MiB; no scanner writes")
    tracemalloc.start()
    try:
        with pytest.raises(SlideError, match="has a description"):
            open_slide(path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_trestle_overlap_of_many_digits_is_a_sentence(
    picture: Callable[..., NDArray[np.uint8]], write: Callable[..., Path]
) -> None:
    with pytest.raises(SlideError) as caught:
        open_slide(write(picture(64, 64), description="OverlapsXY=" + "9" * 100_000))
    assert "Error" not in str(caught.value)
