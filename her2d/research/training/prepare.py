"""Cut the slides of a checked cohort into labelled tiles (paper, section 4.2)."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from her2d.errors import Her2dError
from her2d.method import SATURATION, UM_PER_PX
from her2d.pipeline.saturation import mean_saturation
from her2d.research.training.alignment import Alignment, measure_alignment, shifted_tiles
from her2d.research.training.annotations import (
    AnnotationError,
    SlideAnnotation,
    read_annotation,
)
from her2d.research.training.cohort import CohortSlide, Status
from her2d.research.training.fingerprint import (
    Fingerprint,
    differences,
    fingerprint,
)
from her2d.research.training.ihc import DAB_THRESHOLD, high_expression
from her2d.research.training.region_classes import RegionClasses
from her2d.research.training.study import Study, hold_folder, write_text
from her2d.research.training.tile_store import (
    ExcludedTile,
    PreparedTile,
    TileStore,
    read_alignment,
    read_fingerprint,
    slide_path,
    write_slide,
)
from her2d.slides.errors import SlideError
from her2d.slides.grid import Tile, UnreadableTile
from her2d.slides.protocol import Slide
from her2d.slides.reader import open_slide
from her2d.slides.scale import find_scale_doubt
from her2d.system.csv_table import TableError, read_table

_CLASSES = "classes"


class PrepareError(Her2dError):
    """A slide cannot be prepared; `str(error)` names the slide and the reason."""


class ExpressionSource(StrEnum):
    """Source of high expression, a pathologist's annotation or DAB on the IHC slide, see `ihc`."""

    ANNOTATION = "annotation"
    DAB = "dab"


@dataclass(frozen=True, slots=True)
class LabelRules:
    """Rules by which tiles are labelled.

    Attributes:
        expression: Source of high expression.
        dab_threshold: Density of DAB above which expression is high, see `ihc`. Determine it on
            your own slides.
        excluded: Reasons of tiles that could not be annotated, by (slide, column, row).
        classes: Classes of the annotated regions' names.
        align: Whether the shift of each IHC slide is corrected, see `alignment`.
    """

    expression: ExpressionSource = ExpressionSource.ANNOTATION
    dab_threshold: float = DAB_THRESHOLD
    excluded: dict[tuple[str, int, int], str] = field(default_factory=dict)
    classes: RegionClasses = field(default_factory=RegionClasses)
    align: bool = False

    def excluded_of(self, slide: str) -> dict[tuple[int, int], str]:
        """Return the reasons of a slide's excluded tiles, by (column, row)."""
        return {(c, r): why for (name, c, r), why in self.excluded.items() if name == slide}

    def label_settings(self) -> dict[str, Any]:
        """Return the rules that must be the same for all slides of a study, as a JSON object."""
        settings: dict[str, Any] = {"expression": self.expression.value}
        if self.expression is ExpressionSource.DAB:
            settings["dab_threshold"] = self.dab_threshold
            if self.align:
                settings["align"] = True
        return settings


def prepare_study(
    study: Study,
    slides: Sequence[CohortSlide],
    rules: LabelRules,
    *,
    progress: Callable[[str], None] = lambda _: None,
    note: Callable[[str], None] = lambda _: None,
) -> None:
    """Prepare the tiles of a study, and save its cohort when all are there.

    Until then the study has no cohort, so that no step learns from tiles of which some are labelled
    as before.

    Args:
        study: The study; its folder is created if it is missing.
        slides: A checked cohort.
        rules: How tiles are labelled.
        progress, note: As for `prepare`.

    Raises:
        PrepareError: As for `prepare`.
        StudyError: Another process prepares the study.
        OSError: The study cannot be written.
    """
    with hold_folder(study.tiles):
        _check_excluded(rules.excluded, slides)
        _check_rules(rules, study.tiles)
        study.remove_cohort()
        prepare(slides, study.tiles, rules, progress=progress, note=note)
        study.write_cohort([*slides])


def prepare(
    slides: Sequence[CohortSlide],
    directory: Path,
    rules: LabelRules,
    *,
    progress: Callable[[str], None] = lambda _: None,
    note: Callable[[str], None] = lambda _: None,
) -> None:
    """Write the tiles of every slide, skipping slides that are already prepared.

    A slide is prepared again if its files, its HER2 status, its excluded tiles or the classes of
    its regions' names changed.

    Args:
        slides: A checked cohort.
        directory: Folder for the tiles; created if it is missing.
        rules: How tiles are labelled.
        progress: Called with each slide's name when it is done.
        note: Called with sentences for the user.

    Raises:
        PrepareError: A slide or its annotation cannot be read, they do not match, or the folder
            holds tiles labelled by other rules.
        OSError: The folder cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    _check_rules(rules, directory)
    for slide in slides:
        path = slide_path(directory, slide.name)
        current = fingerprint(slide, rules.excluded_of(slide.name))
        changed = _changes(path, current, rules) if path.is_dir() else []
        if changed:
            note(f"Preparing {slide.name} again because {' and '.join(changed)} changed.")
        if changed or not path.is_dir():
            try:
                _write(path, slide, rules, current, note)
            except (SlideError, AnnotationError, ValueError) as error:
                raise PrepareError(f"{slide.name}: {error}") from error
        progress(slide.name)


def prepared_tiles(
    slide: CohortSlide,
    he: Slide,
    annotation: SlideAnnotation,
    rules: LabelRules,
    alignment: Alignment | None = None,
) -> Iterator[PreparedTile | ExcludedTile]:
    """Yield every tile of a slide that is not background, labelled or excluded, row by row.

    Args:
        slide: A slide of a checked cohort.
        he: Its open H&E slide.
        annotation: Its annotation.
        rules: How tiles are labelled.
        alignment: How its IHC slide lies on the H&E slide, if it was measured. Expression is not
            taken from an IHC slide of another piece of tissue.

    Raises:
        SlideError: A file cannot be read.
        ValueError: The tile grids of the H&E and the IHC slide differ.
    """
    is_same_tissue = alignment is None or alignment.fits
    if rules.expression is ExpressionSource.DAB and slide.ihc_path is not None and is_same_tissue:
        with open_slide(slide.ihc_path) as ihc:
            yield from _with_ihc(slide, he, ihc, annotation, rules, alignment)
        return
    for tile in he.tiles():
        yield from _labelled(slide, tile, None, annotation, rules, he.grid.um_per_px)


def read_excluded(path: Path) -> dict[tuple[str, int, int], str]:
    """Read the tiles to leave out from a CSV with the columns slide, column, row and reason.

    Args:
        path: The CSV file.

    Returns:
        Reasons by (slide, column, row).

    Raises:
        PrepareError: The file cannot be read; the message names a wrong line.
    """
    columns = ("slide", "column", "row", "reason")
    found: dict[tuple[str, int, int], str] = {}
    try:
        rows = read_table(path, known=columns, required=columns).rows
    except TableError as error:
        raise PrepareError(str(error)) from error
    for row in rows:
        slide, column, line, reason = (row.cells[name] for name in columns)
        if row.has_surplus or not (slide and _is_count(column) and _is_count(line) and reason):
            raise PrepareError(
                f"{path}, line {row.line}, must hold a slide, the column and row of a tile, counted"
                " from 0, and a reason."
            )
        found[slide, int(column), int(line)] = reason
    return found


def _check_excluded(
    excluded: Iterable[tuple[str, int, int]], slides: Sequence[CohortSlide]
) -> None:
    """Check that excluded tiles are of slides of the cohort.

    Raises:
        PrepareError: A slide is not one of the cohort's, so its tile would be learned from.
    """
    names = {slide.name for slide in slides}
    for name, _, _ in excluded:
        if name not in names:
            raise PrepareError(f"Tiles of {name} are excluded, which is not a slide of the cohort.")


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10


def alignments(slides: Sequence[CohortSlide], directory: Path) -> dict[str, Alignment | None]:
    """Read how the IHC slides of prepared slides lie on their H&E slides.

    Args:
        slides: The slides.
        directory: The folder of their tiles.

    Returns:
        Alignments by name of the slides that have an IHC slide; None if it was not measured.
    """
    found = {
        slide.name: read_alignment(slide_path(directory, slide.name))
        for slide in slides
        if slide.ihc_path is not None
    }
    return {name: None if each is None else Alignment(**each) for name, each in found.items()}


def contradicting_slides(slides: Sequence[CohortSlide], store: TileStore) -> dict[str, int]:
    """Find slides of IHC 0 or 1+ with strong tumour tiles.

    These scores exclude high expression, so the threshold is too low or slides are mixed up.

    Args:
        slides: The slides of `store`.
        store: Their tiles.

    Returns:
        Numbers of strong tumour tiles, by slide.
    """
    table = store.table
    strong = table.is_tumor & table.labelled & table.strong
    counts = np.bincount(table.slide[strong], minlength=len(store.names))
    found = dict(zip(store.names, counts.tolist(), strict=True))
    return {s.name: found[s.name] for s in slides if s.ihc_score in ("0", "1+") and found[s.name]}


def slides_without_tumor(slides: Sequence[CohortSlide], store: TileStore) -> list[str]:
    """Find slides with a HER2 status and tissue, but without an annotated pixel of tumour.

    A status is one of tumour, so that the annotation is not finished, or of another slide.

    Args:
        slides: The slides of `store`.
        store: Their tiles.
    """
    table, count = store.table, len(store.names)
    tumor = np.bincount(table.slide, table.tumor_pixels, minlength=count)
    tissue = np.bincount(table.slide, minlength=count)
    return [
        slide.name
        for slide, pixels, tiles in zip(slides, tumor, tissue, strict=True)
        if slide.her2_status is not Status.INDETERMINATE and tiles and not pixels
    ]


def is_background(pixels: NDArray[np.uint8]) -> bool:
    """Return whether a tile is background, with a mean saturation of at most 10 (section 4.2).

    Args:
        pixels: uint8 (512, 512, 3) RGB; saturation is on OpenCV's scale of 0 to 255.
    """
    return mean_saturation(pixels) <= SATURATION


def _write(
    path: Path,
    slide: CohortSlide,
    rules: LabelRules,
    current: Fingerprint,
    note: Callable[[str], None],
) -> None:
    with open_slide(slide.he_path) as he:
        if (doubt := find_scale_doubt(he.metadata, UM_PER_PX)) is not None:
            if doubt.is_wrong:
                raise SlideError(slide.he_path.name, f"cannot be learned from. {doubt.remark}")
            note(f"{slide.name}: {doubt.remark}")
        for column, row in rules.excluded_of(slide.name):
            if column >= he.grid.columns or row >= he.grid.rows:
                raise ValueError(
                    f"the excluded tile in column {column}, row {row} is not one of its"
                    f" {he.grid.columns} x {he.grid.rows} tiles"
                )
        annotation = read_annotation(slide.annotation_path, he.grid, rules.classes)
        if annotation.dropped:
            counts = ", ".join(f"{n} {name}" for name, n in sorted(annotation.dropped.items()))
            note(f"Left out of the annotation of {slide.name}: {counts}.")
        alignment = _alignment_of(slide, he, rules, note)
        write_slide(
            path,
            prepared_tiles(slide, he, annotation, rules, alignment),
            expression_from=rules.expression.value,
            fingerprint=current | {_CLASSES: dict(annotation.classes)},
            alignment=None if alignment is None else asdict(alignment),
        )


def _alignment_of(
    slide: CohortSlide, he: Slide, rules: LabelRules, note: Callable[[str], None]
) -> Alignment | None:
    """Measure how the IHC slide lies on the H&E slide, and report what is wrong with it."""
    if slide.ihc_path is None:
        return None
    uses_ihc = rules.expression is ExpressionSource.DAB
    try:
        with open_slide(slide.ihc_path) as ihc:
            found = measure_alignment(he, ihc)
    except SlideError as error:
        if uses_ihc:
            raise
        note(f"The IHC slide of {slide.name} was not compared with its H&E slide: {error}")
        return None
    if found is None:
        note(
            f"The IHC slide of {slide.name} was not compared with its H&E slide: too little tissue."
        )
    elif not found.fits:
        note(
            f"The IHC slide of {slide.name} does not show the same piece of tissue as its H&E slide"
            f" (overlap {found.dice:.2f}, correlation {found.correlation:.2f})."
            + (" Its expression is not used." if uses_ihc else "")
        )
    elif found.is_shifted and not rules.align:
        note(
            f"The tissue on the IHC slide of {slide.name} lies {found.describe_shift()} its place"
            " on the H&E slide." + (" To correct it, prepare with --align." if uses_ihc else "")
        )
    return found


def _changes(path: Path, current: Fingerprint, rules: LabelRules) -> list[str]:
    """Name the inputs of a slide's tiles that changed after they were written."""
    try:
        saved = read_fingerprint(path)
    except KeyError as error:
        raise PrepareError(
            f"{path} was not written by this version of her2d. Remove it to prepare it again."
        ) from error
    same = rules.classes.agree_with(saved[_CLASSES])
    return differences(saved, current) + ([] if same else ["the classes of its regions' names"])


def _check_rules(rules: LabelRules, directory: Path) -> None:
    """Save the rules that all slides of a study share, or check them against the saved ones."""
    path = directory / "rules.json"
    text = json.dumps(rules.label_settings())
    if path.is_file() and path.read_text() != text:
        raise PrepareError(
            f"{directory} holds tiles labelled by other rules. Remove it or use another study."
        )
    write_text(path, text)


def _with_ihc(
    slide: CohortSlide,
    he: Slide,
    ihc: Slide,
    annotation: SlideAnnotation,
    rules: LabelRules,
    alignment: Alignment | None,
) -> Iterator[PreparedTile | ExcludedTile]:
    if rules.align and alignment is not None:
        right, down = round(alignment.right_px), round(alignment.down_px)
        aligned: Iterator[Tile | UnreadableTile] = shifted_tiles(ihc, he.grid, right, down)
    elif (ihc.grid.columns, ihc.grid.rows) == (he.grid.columns, he.grid.rows):
        aligned = ihc.tiles(workers=1)
    else:
        raise ValueError(
            f"its IHC slide has {ihc.grid.columns} x {ihc.grid.rows} tiles and its H&E slide"
            f" {he.grid.columns} x {he.grid.rows}; align them first, or prepare with --align"
        )
    for tile, stained in zip(he.tiles(workers=1), aligned, strict=True):
        yield from _labelled(slide, tile, stained, annotation, rules, he.grid.um_per_px)


def _labelled(
    slide: CohortSlide,
    tile: Tile | UnreadableTile,
    stained: Tile | UnreadableTile | None,
    annotation: SlideAnnotation,
    rules: LabelRules,
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
        # Without a region of high expression, tiles are weak only if the slide is not positive.
        known = rules.expression is ExpressionSource.ANNOTATION and slide.her2_status != "positive"
        yield PreparedTile(*at, tile.pixels, found.tumor, 0 if known else -1)
    else:
        yield PreparedTile(*at, tile.pixels, found.tumor, int(found.high_expression.sum()))
