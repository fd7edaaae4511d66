"""Draw the slide with its HER2-high tumour in brown, as in the paper's Figures 3 and 4.

Where a bundle weighs tiles instead of classifying them, the tumour with most attention is brown.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Lock

import cv2
import numpy as np
from numpy.typing import NDArray

from her2d.pipeline.scoring import Score
from her2d.results.pictures import png_bytes
from her2d.system.files import write_whole
from her2d.system.text import printable

Image = NDArray[np.uint8]
Color = tuple[int, int, int]

P_NOT_COMPUTED = 0.75
"""The p(strong) by which a strong tile is drawn whose p(strong) was not computed."""
HIGH_COLOR = np.array([121, 67, 24], np.float32)
WEAK_COLOR = np.array([84, 110, 160], np.float32)
_INK: Color = (35, 35, 40)
_FAINT: Color = (120, 120, 125)
_UNREADABLE: Color = (200, 60, 60)
_SLIDE_SIDE = 1600
_MARGIN = 40
_HEADER = 120
_FOOTER = 110
_TITLE_PX, _SUBTITLE_PX, _LEGEND_PX, _NOTE_PX = 32, 22, 20, 18
_LARGEST_SENTENCE_PX, _SMALLEST_SENTENCE_PX = 17, 11
_REGULAR, _BOLD = 400, 600
_SHORTEST_END = 30  # characters of a title that is too long: the end of a name, and the status
_NO_PAGE, _NO_WRAP = (0, 0), 1 << 20
_ONE_AT_A_TIME = Lock()  # OpenCV does not say that its fonts may be used by several threads
_BAR_SHARE = 0.2
_STEM_BYTES = 200
_ROUND_UM = (50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000)


@dataclass(frozen=True, slots=True)
class HeatmapData:
    """The input of a heatmap.

    Attributes:
        rgb: uint8 (rows * tile_px, columns * tile_px, 3), the slide at low resolution.
        tumor: uint8, same height and width, share of tumour pixels, 0..255.
        tile_px: side of a tile in pixels of `rgb`.
        p_strong: float32 (rows, columns), NaN outside tumour tiles and where it was not computed.
        strong, unreadable: bool (rows, columns).
        attention: float32 (rows, columns), see `TileTable`, without a call all 0; None for a method
            that classifies tiles.
        um_per_px: micrometres per pixel of `rgb`.
        width, height: size of the slide in pixels of `rgb`; the rest is padding.
        title, subtitle, note: lines of text above the picture, in any script.
    """

    rgb: Image
    tumor: Image
    tile_px: int
    p_strong: NDArray[np.float32]
    strong: NDArray[np.bool_]
    unreadable: NDArray[np.bool_]
    um_per_px: float
    width: int
    height: int
    title: str
    subtitle: str
    note: str = ""
    attention: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class Heading:
    """The lines of text above a heatmap, in any script."""

    title: str
    subtitle: str
    note: str


def heading(name: str, score: Score) -> Heading:
    """Return a heatmap's heading: the slide's name and status, and what the call rests on."""
    subtitle = score.reason or ""
    if score.positive_probability is not None:
        subtitle = (
            f"probability of HER2-positive {score.positive_probability:.3f}; positive from"
            f" {score.probability_threshold:.3f}"
        )
    if score.high_expression_percent is not None:
        subtitle = (
            f"{score.high_expression_percent:.1f} % of tumour is HER2-high"
            f" (95 % interval {score.ci_low:.1f} to {score.ci_high:.1f} %); positive from"
            f" {score.threshold_percent:g} %"
        )
        if score.borderline:
            subtitle += "; borderline"
        if score.send_to_ihc:
            subtitle += "; send to IHC"
    return Heading(f"{name}: HER2 {score.her2_status.value}", subtitle, score.ci_meaning or "")


def with_heading(page: Image, lines: Heading) -> Image:
    """Return a heatmap with other lines above the picture, which stays as it is."""
    page = page.copy()
    page[: _HEADER - 1] = 255
    _write_heading(page, lines)
    return page


def render_heatmap(data: HeatmapData) -> Image:
    """Draw the heatmap, uint8 (H, W, 3) RGB; its slide is 1600 pixels along the longer side."""
    scale = _SLIDE_SIDE / max(data.width, data.height)
    size = (max(1, round(data.width * scale)), max(1, round(data.height * scale)))
    slide = _scaled(overlaid(data)[: data.height, : data.width], size)
    _outline_tumor(slide, data, size)
    _hatch_unreadable(slide, data, scale)
    width = max(size[0], 1000) + 2 * _MARGIN
    page = np.full((_HEADER + size[1] + _FOOTER, width, 3), 255, np.uint8)
    left = (width - size[0]) // 2
    page[_HEADER : _HEADER + size[1], left : left + size[0]] = slide
    cv2.rectangle(
        page, (left - 1, _HEADER - 1), (left + size[0], _HEADER + size[1]), (210, 210, 210), 1
    )
    _write_heading(page, Heading(data.title, data.subtitle, data.note))
    _scale_bar(page, (_MARGIN, _HEADER + size[1] + 40), data.um_per_px / scale, size[0])
    _legend(page, _HEADER + size[1] + 34, data)
    return page


def _write_heading(page: Image, lines: Heading) -> None:
    room = page.shape[1] - 2 * _MARGIN
    title = shortened(lines.title, _TITLE_PX, room, weight=_BOLD)
    _text(page, title, (_MARGIN, 52), _TITLE_PX, _INK, _BOLD)
    _text(page, shortened(lines.subtitle, _SUBTITLE_PX, room), (_MARGIN, 88), _SUBTITLE_PX, _FAINT)
    # The note is a sentence that must be read whole.
    sizes = range(_LARGEST_SENTENCE_PX, _SMALLEST_SENTENCE_PX, -1)
    fitting = (px for px in sizes if text_width(lines.note, px) <= room)
    note_px = next(fitting, _SMALLEST_SENTENCE_PX)
    _text(page, shortened(lines.note, note_px, room), (_MARGIN, 112), note_px, _FAINT)


def heatmap_path(folder: Path, slide: Path, content_hash: str, bundle_digest: str) -> Path:
    """Return where a slide's heatmap is written: one file for each content and bundle.

    Args:
        folder: `[results] heatmaps`.
        slide: the scan.
        content_hash: of the scan, as `blake2b:` and 64 hexadecimal digits.
        bundle_digest: SHA-256 of the bundle's manifest.
    """
    content = content_hash.partition(":")[2][:12]
    return folder / f"{_stem_of(slide)}.{content}.{bundle_digest[:8]}.png"


def renamed_heatmap(heatmap: Path, slide: Path) -> Path:
    """Return the path of a heatmap whose slide has another name now."""
    content_bundle_kind = heatmap.name.split(".")[-3:]
    return heatmap.with_name(".".join([_stem_of(slide), *content_bundle_kind]))


def _stem_of(slide: Path) -> str:
    # A scan's name may be as long as its file system allows; the heatmap's name is longer.
    stem = slide.stem.encode("utf-8", "surrogateescape")[:_STEM_BYTES].decode("utf-8", "ignore")
    return "".join(char if char.isprintable() else "_" for char in stem)


def write_png(path: Path, image: Image) -> None:
    """Write an RGB image as PNG; an error leaves no partial file. Raises OSError."""
    write_whole(path, png_bytes(image))


def overlaid(data: HeatmapData) -> Image:
    """Colour strong tumour brown, darker with a higher p(strong), and weak tumour blue.

    By attention, tumour with at least the mean of it is brown, darker with more, and other tumour
    is blue.

    Where p(strong) was not computed, because the class was certain without it, the brown is that
    of a p(strong) of 0.75.

    Returns:
        uint8 of the shape of `data.rgb`, including padding.
    """
    tint = tint_of(data)
    tumor = data.tumor.astype(np.float32) / 255
    cover = tumor * np.where(tint.high, 0.3 + 0.35 * tint.strength, 0.22)
    color = np.where(tint.high[..., None], HIGH_COLOR, WEAK_COLOR)
    blended = data.rgb + (color - data.rgb) * cover[..., None]
    return np.asarray(blended.round().clip(0, 255), np.uint8)


@dataclass(frozen=True, slots=True)
class Tint:
    """How tumour is coloured, for every pixel of the picture.

    Attributes:
        high: bool (H, W), whether it is brown; else it is blue.
        strength: float32 (H, W), 0 to 1, how dark the brown is.
    """

    high: NDArray[np.bool_]
    strength: NDArray[np.float32]


_ROUNDING = 1e-5
"""By which equal weights, float32, may differ from their mean."""


def tint_of(data: HeatmapData) -> Tint:
    """Return the colours of strong tiles by p(strong), or of weighed tiles by their attention.

    The tile with most attention has the darkest brown, and one with less than the mean is blue.
    """
    side = data.tile_px
    if data.attention is None:
        strength = np.nan_to_num(data.p_strong, nan=P_NOT_COMPUTED)
        high = data.strong
    else:
        weights, weighed = np.nan_to_num(data.attention), ~np.isnan(data.attention)
        most = float(weights.max())
        strength = weights / most if most > 0 else weights
        mean = float(weights[weighed].mean(dtype=np.float64)) if weighed.any() else 0.0
        high = (weights > 0) & (weights >= mean * (1 - _ROUNDING))
    return Tint(_per_pixel(high.astype(np.float32), side) > 0, _per_pixel(strength, side))


def _per_pixel(tiles: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    return np.repeat(np.repeat(tiles, side, axis=0), side, axis=1)


def _scaled(image: Image, size: tuple[int, int]) -> Image:
    shrinking = size[0] < image.shape[1]
    method = cv2.INTER_AREA if shrinking else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, size, interpolation=method), np.uint8)


def _outline_tumor(slide: Image, data: HeatmapData, size: tuple[int, int]) -> None:
    tumor = _scaled(data.tumor[: data.height, : data.width], size)
    outlines, _ = cv2.findContours(
        (tumor > 127).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    cv2.drawContours(slide, outlines, -1, _INK, 1, cv2.LINE_AA)


def _hatch_unreadable(slide: Image, data: HeatmapData, scale: float) -> None:
    side = data.tile_px * scale
    for row, column in np.argwhere(data.unreadable):
        x, y = round(column * side), round(row * side)
        part = slide[y : y + round(side), x : x + round(side)]
        part[...] = 240
        for start in range(-part.shape[0], part.shape[1], 16):
            end = (start + part.shape[0], part.shape[0])
            cv2.line(part, (start, 0), end, _UNREADABLE, 2, cv2.LINE_AA)


def _scale_bar(page: Image, at: tuple[int, int], um_per_px: float, width: int) -> None:
    room = width * um_per_px * _BAR_SHARE
    length = max((um for um in _ROUND_UM if um <= room), default=_ROUND_UM[0])
    x, y = at
    pixels = round(length / um_per_px)
    cv2.rectangle(page, (x, y - 4), (x + pixels, y + 4), _INK, cv2.FILLED)
    label = f"{length / 1000:g} mm" if length >= 1000 else f"{length} µm"
    _text(page, label, (x, y + 36), _LEGEND_PX, _INK)


def _legend(page: Image, y: int, data: HeatmapData) -> None:
    high = "HER2-high tumour" if data.attention is None else "tumour with most attention"
    entries: list[tuple[str, Color]] = [
        (high, (141, 88, 48)),
        ("other tumour", (168, 180, 208)),
    ]
    if data.unreadable.any():
        entries.append(("unreadable", _UNREADABLE))
    x = page.shape[1] - _MARGIN - sum(_legend_width(text) for text, _ in entries)
    for text, color in entries:
        cv2.rectangle(page, (x, y - 8), (x + 28, y + 14), color, cv2.FILLED)
        cv2.rectangle(page, (x, y - 8), (x + 28, y + 14), _INK, 1)
        _text(page, text, (x + 40, y + 11), _LEGEND_PX, _INK)
        x += _legend_width(text)
    note = "research use only"
    note_width = text_width(note, _NOTE_PX)
    _text(page, note, (page.shape[1] - _MARGIN - note_width, y + 56), _NOTE_PX, _FAINT)


def _legend_width(text: str) -> int:
    return text_width(text, _LEGEND_PX) + 40 + 36


def shortened(text: str, size: int, room: int, *, weight: int = _REGULAR) -> str:
    """Return the text with its middle left out where it is wider than `room` pixels.

    Its end stays, which has the slide's status.
    """
    if text_width(text, size, weight=weight) <= room:
        return text
    kept, end = 0, text[-_SHORTEST_END:]
    too_long = len(text) - len(end)
    while too_long - kept > 1:
        middle = (kept + too_long) // 2
        if text_width(f"{text[:middle]}…{end}", size, weight=weight) <= room:
            kept = middle
        else:
            too_long = middle
    return f"{text[:kept]}…{end}"


def text_width(text: str, size: int, *, weight: int = _REGULAR) -> int:
    """Return the width in pixels of a line of text, `size` pixels high."""
    with _ONE_AT_A_TIME:
        left, _, width, _ = cv2.getTextSize(
            _NO_PAGE, _drawable(text), (0, 0), _font(), size, weight
        )
    return int(left + width)


def _text(
    page: Image, text: str, at: tuple[int, int], size: int, color: Color, weight: int = _REGULAR
) -> None:
    with _ONE_AT_A_TIME:
        cv2.putText(page, _drawable(text), at, color, _font(), size, weight, 0, (0, _NO_WRAP))


def _font() -> cv2.FontFace:
    """Return OpenCV's own font, which takes Chinese characters from another font of OpenCV."""
    return cv2.FontFace("sans")


@cache
def _draws_chinese() -> bool:
    """Whether OpenCV was built with that other font, as its wheels on PyPI are."""
    return bool(cv2.FontFace("uni").getName())


def _drawable(text: str) -> str:
    text = printable(text)
    return text if _draws_chinese() else text.encode("ascii", "backslashreplace").decode()
