"""A checked cohort -> prepared tiles (paper, section 4.2): cropped, padded, masked, labelled."""

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from her2d.slides import Slide, SlideError, Tile, UnreadableTile, open_slide
from her2d.training.annotations import AnnotationError, SlideAnnotation, read_annotation
from her2d.training.cohort import CohortSlide
from her2d.training.ihc import high_expression
from her2d.training.store import ExcludedTile, PreparedTile, slide_path, write_slide

BACKGROUND_SATURATION = 10.0


class PrepareError(Exception):
    """A slide cannot be prepared; `str(error)` names it and says why."""


class ExpressionSource(StrEnum):
    """What says where expression is high: a pathologist, or the IHC slide's DAB (`ihc`)."""

    ANNOTATION = "annotation"
    DAB = "dab"


@dataclass(frozen=True, slots=True)
class Rules:
    """How tiles are labelled.

    Attributes:
        expression: what says where expression is high.
        dab_threshold: density from which DAB counts, see `ihc`; set it on slides of your own.
        excluded: (slide, column, row) -> reason, tiles that nobody could annotate.
    """

    expression: ExpressionSource = ExpressionSource.ANNOTATION
    dab_threshold: float = 0.015
    excluded: dict[tuple[str, int, int], str] = field(default_factory=dict)


def prepare(
    slides: Sequence[CohortSlide],
    directory: Path,
    rules: Rules,
    *,
    progress: Callable[[str], None] = lambda _: None,
) -> None:
    """Write every slide's tiles into `directory`; a slide that is there already is left alone.

    Args:
        slides: a checked cohort.
        directory: of the store; made if missing.
        rules: how tiles are labelled.
        progress: told each slide's name when it is done.

    Raises:
        PrepareError: a slide or its annotation cannot be read, they do not belong together, or
            the folder holds tiles labelled by other rules.
        OSError: the folder cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    _keep_to(rules, directory / "rules.txt")
    for slide in slides:
        path = slide_path(directory, slide.name)
        if not path.is_dir():
            try:
                tiles = prepared_tiles(slide, rules)
                write_slide(path, tiles, expression_from=rules.expression.value)
            except (SlideError, AnnotationError, ValueError) as error:
                raise PrepareError(f"{slide.name}: {error}") from error
        progress(slide.name)


def prepared_tiles(slide: CohortSlide, rules: Rules) -> Iterator[PreparedTile | ExcludedTile]:
    """Every tile of a slide that is not background, labelled or excluded, row by row.

    Raises:
        SlideError, AnnotationError: a file cannot be read.
        ValueError: a file that the rules need is not in the table, or the grids differ.
    """
    with open_slide(slide.he_path) as he:
        annotation = _annotation(slide, he)
        if rules.expression is ExpressionSource.DAB and slide.ihc_path is not None:
            with open_slide(slide.ihc_path) as ihc:
                yield from _with_ihc(slide, he, ihc, annotation, rules)
            return
        for tile in he.tiles():
            yield from _labelled(slide, tile, None, annotation, rules, he.grid.um_per_px)


def read_excluded(path: Path) -> dict[tuple[str, int, int], str]:
    """Read a CSV of slide, column, row, reason: tiles not to learn from.

    Raises:
        PrepareError: with the line that is wrong.
    """
    found: dict[tuple[str, int, int], str] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            for row in reader:
                found[row["slide"], int(row["column"]), int(row["row"])] = row["reason"]
    except (OSError, UnicodeDecodeError) as error:
        raise PrepareError(f"{path} cannot be read: {error}.") from error
    except (KeyError, ValueError, TypeError) as error:
        raise PrepareError(
            f"{path}, line {reader.line_num}: slide, column, row and reason are wanted: {error}."
        ) from error
    return found


def is_background(pixels: NDArray[np.uint8]) -> bool:
    """True where a tile's mean saturation is 10 or less on OpenCV's scale (section 4.2)."""
    saturation: float = cv2.mean(cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV))[1]
    return saturation <= BACKGROUND_SATURATION


def _keep_to(rules: Rules, path: Path) -> None:
    text = repr(rules)
    if not path.is_file():
        path.write_text(text)
    elif path.read_text() != text:
        raise PrepareError(
            f"{path.parent} holds tiles labelled by other rules; remove it or name another study."
        )


def _annotation(slide: CohortSlide, he: Slide) -> SlideAnnotation:
    if slide.annotation_path is None:
        raise ValueError("no annotation of its tumour is named in the cohort table")
    return read_annotation(slide.annotation_path, he.grid)


def _with_ihc(
    slide: CohortSlide, he: Slide, ihc: Slide, annotation: SlideAnnotation, rules: Rules
) -> Iterator[PreparedTile | ExcludedTile]:
    if (ihc.grid.columns, ihc.grid.rows) != (he.grid.columns, he.grid.rows):
        raise ValueError(
            f"its IHC slide has {ihc.grid.columns} x {ihc.grid.rows} tiles, its H&E slide"
            f" {he.grid.columns} x {he.grid.rows}: align them first"
        )
    for tile, stained in zip(he.tiles(workers=1), ihc.tiles(workers=1), strict=True):
        yield from _labelled(slide, tile, stained, annotation, rules, he.grid.um_per_px)


def _labelled(
    slide: CohortSlide,
    tile: Tile | UnreadableTile,
    stained: Tile | UnreadableTile | None,
    annotation: SlideAnnotation,
    rules: Rules,
    um_per_px: float,
) -> Iterator[PreparedTile | ExcludedTile]:
    at = tile.column, tile.row
    if isinstance(tile, UnreadableTile):
        yield ExcludedTile(*at, f"unreadable: {tile.reason}")
        return
    if is_background(tile.pixels):
        return
    if (slide.name, *at) in rules.excluded:
        yield ExcludedTile(*at, rules.excluded[slide.name, *at])
        return
    found = annotation.tile(*at)
    if found.excluded:
        yield ExcludedTile(*at, "annotated as excluded")
        return
    if isinstance(stained, UnreadableTile):
        yield ExcludedTile(*at, f"its IHC tile is unreadable: {stained.reason}")
        return
    if stained is not None:
        strong = high_expression(
            stained.pixels, found.tumor, um_per_px=um_per_px, threshold=rules.dab_threshold
        )
        yield PreparedTile(*at, tile.pixels, found.tumor, int(strong.sum()))
    elif rules.expression is ExpressionSource.DAB or found.high_expression is None:
        # Polygons without a single strong region mean a negative slide only if it is one.
        known = rules.expression is ExpressionSource.ANNOTATION and slide.her2_status != "positive"
        yield PreparedTile(*at, tile.pixels, found.tumor, 0 if known else -1)
    else:
        yield PreparedTile(*at, tile.pixels, found.tumor, int(found.high_expression.sum()))
