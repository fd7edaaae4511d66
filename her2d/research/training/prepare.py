"""A checked cohort -> prepared tiles (paper, section 4.2): cropped, padded, masked, labelled."""

import csv
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from her2d.research.training.annotations import (
    AnnotationError,
    SlideAnnotation,
    read_annotation,
)
from her2d.research.training.cohort import CohortSlide
from her2d.research.training.fingerprint import (
    Fingerprint,
    differences,
    fingerprint,
    newer_than,
)
from her2d.research.training.ihc import DAB_THRESHOLD, high_expression
from her2d.research.training.region_classes import RegionClasses
from her2d.research.training.study import write_text
from her2d.research.training.tile_store import (
    ExcludedTile,
    PreparedTile,
    TileStore,
    read_fingerprint,
    slide_path,
    write_fingerprint,
    write_slide,
)
from her2d.slides.errors import SlideError
from her2d.slides.grid import Tile, UnreadableTile
from her2d.slides.reader import open_slide
from her2d.slides.slide import Slide

BACKGROUND_SATURATION = 10.0
_CLASSES = "classes"


class PrepareError(Exception):
    """A slide cannot be prepared; `str(error)` names it and says why."""


class ExpressionSource(StrEnum):
    """What says where expression is high: a pathologist, or the IHC slide's DAB (`ihc`)."""

    ANNOTATION = "annotation"
    DAB = "dab"


@dataclass(frozen=True, slots=True)
class LabelRules:
    """How tiles are labelled.

    Attributes:
        expression: what says where expression is high.
        dab_threshold: density from which DAB counts, see `ihc`; set it on slides of your own.
        excluded: (slide, column, row) -> reason, tiles that nobody could annotate.
        classes: what the annotated regions' names mean.
    """

    expression: ExpressionSource = ExpressionSource.ANNOTATION
    dab_threshold: float = DAB_THRESHOLD
    excluded: dict[tuple[str, int, int], str] = field(default_factory=dict)
    classes: RegionClasses = field(default_factory=RegionClasses)

    def excluded_of(self, slide: str) -> dict[tuple[int, int], str]:
        """(column, row) -> reason, of one slide."""
        return {(c, r): why for (name, c, r), why in self.excluded.items() if name == slide}

    def of_labels(self) -> dict[str, Any]:
        """What must be the same for all slides of a study, as JSON has it."""
        found: dict[str, Any] = {"expression": self.expression.value}
        if self.expression is ExpressionSource.DAB:
            found["dab_threshold"] = self.dab_threshold
        return found

    def as_once_written(self) -> str:
        """What a study's rules.txt held, before there was rules.json."""
        return (
            f"LabelRules(expression={self.expression!r}, dab_threshold={self.dab_threshold!r},"
            f" excluded={self.excluded!r})"
        )


def prepare(
    slides: Sequence[CohortSlide],
    directory: Path,
    rules: LabelRules,
    *,
    progress: Callable[[str], None] = lambda _: None,
    note: Callable[[str], None] = lambda _: None,
) -> None:
    """Write every slide's tiles into `directory`; a slide that is there already is left alone.

    It is prepared again where its files, its HER2 status, its excluded tiles or what its regions'
    names mean changed.

    Args:
        slides: a checked cohort.
        directory: of the store; made if missing.
        rules: how tiles are labelled.
        progress: told each slide's name when it is done.
        note: told in a sentence what a user should know.

    Raises:
        PrepareError: a slide or its annotation cannot be read, they do not belong together, or
            the folder holds tiles labelled by other rules.
        OSError: the folder cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    _keep_to(rules, directory)
    for slide in slides:
        path = slide_path(directory, slide.name)
        now = fingerprint(slide, rules.excluded_of(slide.name))
        changed = _changed(slide, path, now, rules) if path.is_dir() else []
        if changed:
            note(f"{slide.name} is prepared again: {' and '.join(changed)} changed.")
        if changed or not path.is_dir():
            try:
                _write(path, slide, rules, now, note)
            except (SlideError, AnnotationError, ValueError) as error:
                raise PrepareError(f"{slide.name}: {error}") from error
        progress(slide.name)


def prepared_tiles(
    slide: CohortSlide, he: Slide, annotation: SlideAnnotation, rules: LabelRules
) -> Iterator[PreparedTile | ExcludedTile]:
    """Every tile of a slide that is not background, labelled or excluded, row by row.

    Args:
        slide: of a checked cohort.
        he: its H&E slide, open.
        annotation: of it.
        rules: how tiles are labelled.

    Raises:
        SlideError: a file cannot be read.
        ValueError: the grids of the H&E and the IHC slide differ.
    """
    if rules.expression is ExpressionSource.DAB and slide.ihc_path is not None:
        with open_slide(slide.ihc_path) as ihc:
            yield from _with_ihc(slide, he, ihc, annotation, rules)
        return
    for tile in he.tiles():
        yield from _labelled(slide, tile, None, annotation, rules, he.grid.um_per_px)


def annotation_of(slide: CohortSlide, he: Slide, classes: RegionClasses) -> SlideAnnotation:
    """The annotation of a slide that is open.

    Raises:
        AnnotationError: it cannot be read.
        ValueError: there is none in the table.
    """
    if slide.annotation_path is None:
        raise ValueError("no annotation of its tumour is named in the cohort table")
    return read_annotation(slide.annotation_path, he.grid, classes)


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


def contradicted(slides: Sequence[CohortSlide], store: TileStore) -> dict[str, int]:
    """Slides of IHC 0 or 1+ and how many strong tumour tiles they hold, where they hold any.

    Such a score has no high expression: the threshold is too low, or slides are mixed up.
    """
    table = store.table
    strong = table.is_tumor & table.labelled & table.strong
    counts = np.bincount(table.slide[strong], minlength=len(store.names))
    found = dict(zip(store.names, counts.tolist(), strict=True))
    return {s.name: found[s.name] for s in slides if s.ihc_score in ("0", "1+") and found[s.name]}


def is_background(pixels: NDArray[np.uint8]) -> bool:
    """True where a tile's mean saturation is 10 or less on OpenCV's scale (section 4.2)."""
    saturation: float = cv2.mean(cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV))[1]
    return saturation <= BACKGROUND_SATURATION


def _write(
    path: Path, slide: CohortSlide, rules: LabelRules, now: Fingerprint, note: Callable[[str], None]
) -> None:
    with open_slide(slide.he_path) as he:
        annotation = annotation_of(slide, he, rules.classes)
        if annotation.dropped:
            counts = ", ".join(f"{n} {name}" for name, n in sorted(annotation.dropped.items()))
            note(f"{slide.name}: left out of its annotation: {counts}.")
        write_slide(
            path,
            prepared_tiles(slide, he, annotation, rules),
            expression_from=rules.expression.value,
            fingerprint=now | {_CLASSES: dict(annotation.classes)},
        )


def _changed(slide: CohortSlide, path: Path, now: Fingerprint, rules: LabelRules) -> list[str]:
    """What of a slide changed since its group was written."""
    kept = read_fingerprint(path)
    if kept is not None:
        same = rules.classes.are(kept.get(_CLASSES, {}))
        return differences(kept, now) + ([] if same else ["what its regions' names mean"])
    # Written before groups had a fingerprint: what is older than the group is taken to be its.
    changed = newer_than(slide, path / "zarr.json")
    if not changed:
        write_fingerprint(path, now)
    return changed


def _keep_to(rules: LabelRules, directory: Path) -> None:
    """One study, one way of labelling; excluded tiles are each slide's own matter."""
    kept, once = directory / "rules.json", directory / "rules.txt"
    wanted = json.dumps(rules.of_labels())
    if kept.is_file():
        same = kept.read_text() == wanted
    elif once.is_file():
        then, now = once.read_text(), rules.as_once_written()
        same = _without_idle_threshold(then) == _without_idle_threshold(now)
    else:
        same = True
    if not same:
        raise PrepareError(
            f"{directory} holds tiles labelled by other rules; remove it or name another study."
        )
    write_text(kept, wanted)


def _without_idle_threshold(text: str) -> str:
    """rules.txt held the threshold of DAB also where annotations say what is strong."""
    return re.sub(r"(annotation'>, dab_threshold=)[^,]*", r"\1", text)


def _with_ihc(
    slide: CohortSlide, he: Slide, ihc: Slide, annotation: SlideAnnotation, rules: LabelRules
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
        # An annotation without a single strong region means a negative slide only if it is one.
        known = rules.expression is ExpressionSource.ANNOTATION and slide.her2_status != "positive"
        yield PreparedTile(*at, tile.pixels, found.tumor, 0 if known else -1)
    else:
        yield PreparedTile(*at, tile.pixels, found.tumor, int(found.high_expression.sum()))
