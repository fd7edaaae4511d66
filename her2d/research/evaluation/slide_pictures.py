"""Pictures of slides for Figures 3, 4 and S3: H&E, heatmap, IHC, single tiles, tumour."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from her2d.method import TILE_PX
from her2d.pipeline.outcome import SlideOutcome, TileClass, is_tumor
from her2d.processing.records import heatmap_data
from her2d.research.evaluation.slide_predictions import PredictedSlide
from her2d.research.training.alignment import Alignment
from her2d.research.training.cohort import CohortSlide, Split, Status
from her2d.research.training.study import Study
from her2d.research.training.tile_store import TileStore, read_alignment, slide_path
from her2d.research.training.train import open_tiles
from her2d.results.heatmap import overlaid
from her2d.slides.errors import SlideError
from her2d.slides.protocol import Slide
from her2d.slides.reader import open_slide

Found = TypeVar("Found")
Image = NDArray[np.uint8]

_SIDE = 640
_TILE_SIDE = 360
_JPEG_QUALITY = 88
_TUMOR_COLOR = np.array([121, 67, 24], np.float32)
_TUMOR_COVER = 0.5
_EACH = 4
# The paper shows three positive slides and a negative one in Figures 3 and 4.
_POSITIVES = 3


class Outcome(StrEnum):
    """How a slide with a true status and a call was called."""

    TRUE_POSITIVE = "true positive"
    FALSE_NEGATIVE = "false negative"
    FALSE_POSITIVE = "false positive"
    TRUE_NEGATIVE = "true negative"

    @property
    def is_right(self) -> bool:
        """Whether the call is the true status."""
        return self in (Outcome.TRUE_POSITIVE, Outcome.TRUE_NEGATIVE)

    @classmethod
    def of(cls, true_status: str, predicted: str) -> "Outcome | None":
        """Return the outcome, or None without a true status or a call."""
        statuses = (Status.POSITIVE.value, Status.NEGATIVE.value)
        if true_status not in statuses or predicted not in statuses:
            return None
        right = "true" if true_status == predicted else "false"
        return cls(f"{right} {predicted}")


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture with its description.

    Attributes:
        title: What it shows.
        image: Data URL of a JPEG.
    """

    title: str
    image: str


@dataclass(frozen=True, slots=True)
class Case:
    """One slide in Figure 3, 4 or S3.

    Attributes:
        caption: Its name, true status and prediction.
        pictures: From left to right.
        remark: Why a picture is missing, in one sentence; "" if none is.
    """

    caption: str
    pictures: tuple[Picture, ...]
    remark: str = ""


class SlidePictures:
    """Draws some of the slides while all are predicted.

    Only compressed pictures are kept: of four slides of each outcome and test set at most, and of
    one of each status and test set for Figure S3.
    """

    def __init__(self, study: Study) -> None:
        self._study = study
        self._cases: dict[tuple[Split, Outcome], list[Case]] = {}
        self._tumor: dict[tuple[Split, Status], Case] = {}

    def add(self, found: PredictedSlide) -> None:
        """Draw a slide, unless there are enough like it.

        Raises:
            StudyError: The slide is not prepared.
            OSError: A picture cannot be encoded.
        """
        slide, score = found.slide, found.outcome.score
        key = slide.split, slide.her2_status
        if slide.her2_status is not Status.INDETERMINATE and key not in self._tumor:
            self._tumor[key] = draw_tumor(self._study, found)
        outcome = Outcome.of(slide.her2_status.value, score.her2_status.value)
        if outcome is None:
            return
        cases = self._cases.setdefault((slide.split, outcome), [])
        if len(cases) < _EACH:
            cases.append(draw_case(self._study, found, outcome))

    @property
    def right(self) -> list[Case]:
        """The cases of Figure 3, called as they truly are."""
        return four_of(self._of(Outcome.TRUE_POSITIVE), self._of(Outcome.TRUE_NEGATIVE))

    @property
    def wrong(self) -> list[Case]:
        """The cases of Figure 4, called wrong."""
        return four_of(self._of(Outcome.FALSE_NEGATIVE), self._of(Outcome.FALSE_POSITIVE))

    @property
    def tumor(self) -> list[Case]:
        """The cases of Figure S3."""
        return list(self._tumor.values())

    def _of(self, outcome: Outcome) -> list[Case]:
        # Other centres first, as in the paper.
        return [
            case
            for split in (Split.EXTERNAL, Split.TEST)
            for case in self._cases.get((split, outcome), [])
        ]


def four_of(positive: Sequence[Found], negative: Sequence[Found]) -> list[Found]:
    """Choose three positive slides and a negative one, or more of one kind to make four."""
    positives = max(_POSITIVES, _EACH - len(negative))
    chosen = positive[:positives]
    return [*chosen, *negative[: _EACH - len(chosen)]]


def draw_case(study: Study, found: PredictedSlide, outcome: Outcome) -> Case:
    """Draw a slide's H&E, heatmap and IHC, and one tile at 4x in H&E and in IHC.

    The tile is the one that decided most: of a slide called positive the tumour tile with the
    highest p(strong), and of one called negative the tile with the highest p(strong) among those
    annotated strong but called weak, or else among all.

    Args:
        study: The study.
        found: The slide with the pipeline's outcome.
        outcome: How it was called.

    Raises:
        StudyError: The slide is not prepared.
        OSError: A picture cannot be encoded.
    """
    slide, result = found.slide, found.outcome
    pictures = [
        Picture("H&E", _encoded(_cropped(result, result.overview.rgb), _SIDE)),
        Picture("heatmap", _encoded(_cropped(result, heatmap(result)), _SIDE)),
    ]
    missed = np.zeros(result.tile_class.shape, bool)
    if result.score.her2_status.value == Status.NEGATIVE:
        missed = _annotated_strong(open_tiles(study, [slide]), missed.shape)
    tile = telling_tile(result.tile_class, result.p_strong, missed)
    remark = ""
    try:
        with open_slide(slide.he_path) as he:
            close = [] if tile is None else [_tile_picture("H&E at 4x", he, he, tile)]
            if slide.ihc_path is None:
                remark = "The cohort does not have an IHC slide."
            else:
                with open_slide(slide.ihc_path) as ihc:
                    pictures.append(Picture("IHC", _encoded(_in_small(ihc), _SIDE)))
                    shift = _shift_of_ihc(study, slide)
                    close += (
                        [] if tile is None else [_tile_picture("IHC at 4x", ihc, he, tile, shift)]
                    )
    except SlideError as error:
        close, remark = [], f"A slide could not be read: {error}"
    percent = result.score.high_expression_percent
    return Case(
        f"{slide.name} ({slide.split.value}): {outcome.value}"
        + ("" if percent is None else f", P {percent:.1f} %"),
        (*pictures, *close),
        remark,
    )


def draw_tumor(study: Study, found: PredictedSlide) -> Case:
    """Draw a slide's tumour as annotated and as predicted (paper, Figure S3).

    Args:
        study: The study.
        found: The slide with the pipeline's outcome.

    Raises:
        StudyError: The slide is not prepared.
        OSError: A picture cannot be encoded.
    """
    result = found.outcome
    annotated = annotated_tumor(open_tiles(study, [found.slide]), result)
    pictures = (
        Picture("H&E", _encoded(_cropped(result, result.overview.rgb), _SIDE)),
        Picture("annotated", _encoded(_cropped(result, _tinted(result, annotated)), _SIDE)),
        Picture(
            "predicted",
            _encoded(_cropped(result, _tinted(result, result.overview.tumor)), _SIDE),
        ),
    )
    caption = f"{found.slide.name} ({found.slide.split.value})"
    return Case(caption, pictures)


def heatmap(outcome: SlideOutcome) -> Image:
    """Colour a slide's strong tumour brown and its weak tumour blue, without a heading."""
    return overlaid(heatmap_data("", outcome))


def telling_tile(
    tile_class: NDArray[np.uint8], p_strong: NDArray[np.float32], missed: NDArray[np.bool_]
) -> tuple[int, int] | None:
    """Return column and row of the tile that decided most, see `draw_case`.

    Args:
        tile_class, p_strong: As in `SlideOutcome`, (rows, columns).
        missed: Tiles that are shown before others if they were called weak, (rows, columns).

    Returns:
        None without a tumour tile.
    """
    tumor = is_tumor(tile_class)
    if not tumor.any():
        return None
    # A tile whose probability was not computed was certain without it.
    certain = np.where(tile_class == TileClass.STRONG, 1.0, 0.0)
    p = np.where(np.isnan(p_strong), certain, p_strong)
    missed = missed & (tile_class == TileClass.WEAK)
    among = missed if missed.any() else tumor
    row, column = divmod(int(np.argmax(np.where(among, p, -1.0))), tile_class.shape[1])
    return column, row


def _annotated_strong(tiles: TileStore, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    table, found = tiles.table, np.zeros(shape, bool)
    strong = table.labelled & table.strong & table.is_tumor
    found[table.row[strong], table.column[strong]] = True
    return found


def annotated_tumor(tiles: TileStore, outcome: SlideOutcome) -> Image:
    """Return the annotated share of tumour as an overview has it, uint8, 0..255.

    Args:
        tiles: The slide's prepared tiles; tiles that are not prepared have none.
        outcome: The pipeline's outcome.
    """
    side = outcome.overview.tile_px
    found = np.zeros(outcome.overview.tumor.shape, np.uint8)
    table = tiles.table
    for index, (column, row) in enumerate(zip(table.column, table.row, strict=True)):
        if table.tumor_pixels[index]:
            mask = 255 * tiles.tumor(index)
            small = cv2.resize(mask, (side, side), interpolation=cv2.INTER_AREA)
            found[row * side : (row + 1) * side, column * side : (column + 1) * side] = small
    return found


def _tinted(outcome: SlideOutcome, tumor: Image) -> Image:
    cover = _TUMOR_COVER * tumor[..., None].astype(np.float32) / 255
    rgb = outcome.overview.rgb.astype(np.float32)
    return np.asarray((rgb + (_TUMOR_COLOR - rgb) * cover).round(), np.uint8)


def _cropped(outcome: SlideOutcome, image: Image) -> Image:
    """Leave out the padding of the last tiles."""
    scale = outcome.overview.tile_px / outcome.grid.tile_size
    height = max(1, round(outcome.grid.height * scale))
    width = max(1, round(outcome.grid.width * scale))
    return image[:height, :width]


def _in_small(slide: Slide) -> Image:
    shrink = min(1.0, _SIDE / max(slide.grid.width, slide.grid.height))
    size = (round(slide.grid.width * shrink), round(slide.grid.height * shrink))
    return slide.get_thumbnail((max(1, size[0]), max(1, size[1])))


def _shift_of_ihc(study: Study, slide: CohortSlide) -> tuple[float, float]:
    """Return where the IHC slide's tissue lies, in pixels of the 4x grid; 0, 0 if not known."""
    measured = read_alignment(slide_path(study.tiles, slide.name))
    found = None if measured is None else Alignment(**measured)
    return (0.0, 0.0) if found is None or not found.fits else (found.right_px, found.down_px)


def _tile_picture(
    title: str,
    slide: Slide,
    he: Slide,
    tile: tuple[int, int],
    shift: tuple[float, float] = (0.0, 0.0),
) -> Picture:
    """Read the place of an H&E slide's tile on that slide, or on its IHC slide with a shift."""
    level0_per_px = he.grid.um_per_px * slide.grid.level0_downsample / slide.grid.um_per_px
    level = slide.get_best_level_for_downsample(level0_per_px)
    x, y = (
        round((TILE_PX * at + moved) * level0_per_px) for at, moved in zip(tile, shift, strict=True)
    )
    side = max(1, round(TILE_PX * level0_per_px / slide.level_downsamples[level]))
    return Picture(title, _encoded(slide.read_region((x, y), level, (side, side)), _TILE_SIDE))


def _encoded(image: Image, most: int) -> str:
    """Return a data URL of a JPEG whose longer side has at most that many pixels."""
    shrink = min(1.0, most / max(image.shape[:2]))
    if shrink < 1:
        image = np.asarray(
            cv2.resize(image, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA), np.uint8
        )
    coded, data = cv2.imencode(
        ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    )
    if not coded:
        raise OSError("a picture of a slide cannot be encoded as JPEG")
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"
