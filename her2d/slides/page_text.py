"""Read from the description of a page what the page is: the scan, a level, a label or a macro.

Motic and Aperio write a geometry into the header of a description, which ends at the first bar:
"53046x51735 [0,0 53046x51735] [512x512] JPEG/RGB" is a scan, the same with "-> 13261x12933
JPEG/RGB" behind it a level, and "53046x51735 -> 847x826 -" a thumbnail. "label 387x463" and "macro
160x456" name pictures of the glass. Ventana writes "level=2 mag=10 quality=90". All of it may be on
one line, with any line ending, in capitals or in Chinese.
"""

import re
from dataclasses import dataclass

from her2d.system.numerals import read_number

Size = tuple[int, int]

MASK = "mask"  # a picture of where the tissue is, which no viewer shows

_LEAST_REDUCTION = 1.05  # less is padding, or rounding
_SAME_SHAPE = 0.01
_HEADER = 1024  # characters; a header has less than 200
_LINE_END = re.compile(r"[\r\n;]+")
_TIMES = "[x\u00d7*]"
_VENDOR = re.compile(  # such as "Motic V1.0.0" or "Aperio Image Library v11.2.1"
    rf"^\W*(?:motic|aperio|麦克奥迪)(?:[^\d\r\n]*\d+(?:\.\d+)*[a-z]?\b(?!\s*{_TIMES}\s*\d))?[\s:,-]*",
    re.IGNORECASE,
)
_GEOMETRY = re.compile(
    rf"^(\d+)\s*{_TIMES}\s*(\d+)"
    rf"(?:\s*\[\s*-?\d+\s*,\s*-?\d+\s+(\d+)\s*{_TIMES}\s*(\d+)\s*\])?"
    r"(?P<rest>.*)$",
    re.IGNORECASE,
)
_ARROW = re.compile(rf"->\s*(\d+)\s*{_TIMES}\s*(\d+)\s*(?P<codec>[a-z]\w*)?", re.IGNORECASE)
_LEVEL = re.compile(r"^level\s*=\s*(\d+)\b(?:.*?\bmag\s*=\s*(\d+(?:\.\d+)?))?", re.IGNORECASE)
_NAMES = {
    "label": ("label", "标签", "標籤", "标贴", "標貼", "条码", "條碼"),
    "macro": ("macro", "宏观", "宏觀", "宏图", "宏", "巨观", "大体", "大體"),
    "thumbnail": ("thumbnail", "thumb", "缩略", "縮略", "缩略图", "縮圖"),
    "overview": ("overview", "preview", "概览", "概覽", "总览", "總覽", "预览", "預覽", "全景"),
    MASK: ("probability", "mask"),
}
_PICTURE = r"(?:[\s_-]*(?:image|img|picture|photo(?:graph)?|页|頁|图像|圖像|图片|圖片|图|圖|像))?"
_NAMED = {
    name: re.compile(
        rf"^(?:slide[\s_-]*)?(?:{'|'.join(words)}){_PICTURE}\s*"
        rf"(?:$|[,\[(]|->|[\s:=-]*\d+\s*{_TIMES}\s*\d+)",
        re.IGNORECASE,
    )
    for name, words in _NAMES.items()
}
_NAMED_WITHIN = {
    name: re.compile(rf"(?<![a-z])(?:{'|'.join(words)})(?![a-z])", re.IGNORECASE)
    for name, words in _NAMES.items()
}


@dataclass(frozen=True, slots=True)
class PageStatement:
    """What one page states about itself; None where it states nothing.

    Attributes:
        name: of a picture beside the pyramid: label, macro, thumbnail, overview or mask.
        scan: width and height of the scan that it is, or that it is a smaller copy of.
        reduced_to: its own width and height, where it is a level of the scan.
        number: of the level, from 0.
        magnification: of the objective that the level's pixels correspond to.
    """

    name: str | None = None
    scan: Size | None = None
    reduced_to: Size | None = None
    number: int | None = None
    magnification: float | None = None


def read_statement(description: str) -> PageStatement:
    """Return what the description of a page (tag 270) states about the page.

    Args:
        description: any text; XML states nothing here, because it describes the whole file.
    """
    header = description[:_HEADER].split("|", 1)[0].strip("\0 \t\r\n\ufeff")
    if header.startswith("<"):
        return PageStatement()
    for line in _LINE_END.split(header):
        text = _VENDOR.sub("", line.strip()).strip()
        for name, pattern in _NAMED.items():
            if pattern.match(text):
                return PageStatement(name=name)
        if level := _LEVEL.match(text):
            magnification = read_number(level[2]) if level[2] else None
            return PageStatement(number=int(level[1]), magnification=magnification)
        if geometry := _GEOMETRY.match(text):
            return _read_geometry(geometry)
    return PageStatement()


def reduction_of(description: str, size: Size) -> float | None:
    """Return by how much an image is smaller than the scan that its description is of, or None.

    A part that was cut out of a scan has another shape, and is not smaller in this sense.

    Args:
        description: of the image.
        size: its width and height.
    """
    scan = read_statement(description).scan
    if scan is None:
        return None
    across, down = (whole / own for whole, own in zip(scan, size, strict=True))
    if min(across, down) < _LEAST_REDUCTION or abs(across / down - 1) > _SAME_SHAPE:
        return None
    return float((across * down) ** 0.5)


def name_within(text: str) -> str | None:
    """Return which of label, macro, thumbnail, overview and mask is a word of a title."""
    return next((name for name, pattern in _NAMED_WITHIN.items() if pattern.search(text)), None)


def _read_geometry(geometry: re.Match[str]) -> PageStatement:
    width, height, crop_width, crop_height = geometry.groups()[:4]
    scan = (int(crop_width or width), int(crop_height or height))
    rest = geometry["rest"]
    arrow = _ARROW.search(rest)
    if arrow is None:
        # Some programs write the size of a label or macro so, without anything behind it.
        return PageStatement(scan=scan if crop_width or re.search(r"\w", rest) else None)
    if arrow["codec"] is None:
        return PageStatement(name="thumbnail", scan=scan)
    return PageStatement(scan=scan, reduced_to=(int(arrow[1]), int(arrow[2])))
