"""What stain jitter and stain normalisation do to a classifier, within its centre and outside.

One fold's classifier is trained four times: with the study's recipe, without stain jitter, and
without jitter on tiles that Macenko's or Reinhard's method gave the stain of one training slide.
Normalisation is measured only; bundles with it cannot be made.
"""

import csv
import io
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from her2d.calibration.proportion import Estimate
from her2d.research.evaluation.roc_area import auroc_estimate
from her2d.research.networks.build import build_classifier
from her2d.research.training.cohort import Split
from her2d.research.training.fit import WEIGHTS_FILE, is_rank_zero
from her2d.research.training.out_of_fold import p_strong
from her2d.research.training.recipe import Recipe
from her2d.research.training.stain_normalization import (
    Look,
    StainError,
    macenko_look,
    reinhard_look,
)
from her2d.research.training.study import Study, StudyError, write_text
from her2d.research.training.tile_store import TileStore
from her2d.research.training.train import (
    fit_classifier,
    gated_training_tiles,
    open_tiles,
)

TABLE = "stain.csv"
_FOLD = 0
_TILES_OF_SLIDE = 12
"""Tiles that a slide's stain is measured on, spread evenly over the slide."""

Measure = Callable[[list[NDArray[np.uint8]]], Look]
_METHODS: dict[str, Measure] = {"macenko": macenko_look, "reinhard": reinhard_look}


@dataclass(frozen=True, slots=True)
class StainRow:
    """A way to treat stain, and the classifier's tile AUROC.

    Attributes:
        stain: `recipe`, `as scanned`, `macenko` or `reinhard`.
        jitter: Stain jitter of the training.
        split: `test` or `external`.
        tiles: Number of labelled tumour tiles.
        auroc: Tile AUROC with its 95 % interval, patients as clusters.
    """

    stain: str
    jitter: float
    split: str
    tiles: int
    auroc: Estimate


def compare_stains(
    study: Study, recipe: Recipe, name: str, progress: Callable[[str], None] = lambda _: None
) -> list[StainRow]:
    """Train one fold of a classifier with each treatment of stain, and measure all.

    Writes stain.csv into the study's evaluation. A stopped comparison is continued.

    Args:
        study: A prepared study.
        recipe: How to train; its stain jitter is that of the row `recipe`.
        name: A key of CLASSIFIERS.
        progress: Called with what is done next.

    Raises:
        ValueError: The name is not a key of CLASSIFIERS.
        StudyError, FoldsError, FitError: The networks cannot be trained, or there are neither test
            nor external slides, or a slide's stain cannot be measured.
        OSError: The study cannot be written.
    """
    cohort = study.cohort()
    patient_of = {slide.name: slide.patient for slide in cohort}
    stores = {
        split: open_tiles(study, [slide for slide in cohort if slide.split is split])
        for split in (Split.TEST, Split.EXTERNAL)
    }
    if not any(map(len, stores.values())):
        raise StudyError("The cohort does not have slides in the splits test and external.")
    plain = recipe.model_copy(
        update={"classifier": recipe.classifier.model_copy(update={"stain_jitter": 0.0})}
    )
    tiles = gated_training_tiles(study, recipe)
    ways = {"recipe": recipe, "as scanned": plain} | dict.fromkeys(_METHODS, plain)
    rows = []
    for stain, how in ways.items():
        progress(f"{name}, fold {_FOLD}, {stain}")
        shown = _shown_as(stain, tiles.store)
        directory = study.root / "stain" / name / stain.replace(" ", "-")
        fit_classifier(directory, how, name, _FOLD, replace(tiles, store=shown(tiles.store)))
        network = build_classifier(
            name,
            width_multiplier=how.classifier.width_multiplier,
            weights=directory / WEIGHTS_FILE,
        )
        for split, store in stores.items():
            found = np.flatnonzero(store.table.is_tumor & store.table.labelled)
            if not len(found):
                continue
            p = p_strong([network], shown(store), found, how.normalization)[:, 0]
            patients = np.array([patient_of[name] for name in store.names])
            rows.append(
                StainRow(
                    stain,
                    how.classifier.stain_jitter,
                    split.value,
                    len(found),
                    auroc_estimate(
                        store.table.strong[found], p, patients[store.table.slide[found]]
                    ),
                )
            )
    if is_rank_zero():
        study.evaluation.mkdir(parents=True, exist_ok=True)
        _write(study.evaluation / TABLE, rows)
    return rows


def _shown_as(stain: str, training: TileStore) -> Callable[[TileStore], TileStore]:
    """Return what shows a store's tiles as a treatment of stain does."""
    if stain not in _METHODS:
        return lambda store: store
    measure = _METHODS[stain]
    looks = _looks(training, measure)
    target = _middle(list(looks.values()))

    def shown(store: TileStore) -> TileStore:
        def change(index: int, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
            slide = int(store.table.slide[index])
            name = store.names[slide]
            if name not in looks:
                looks[name] = _look(store, slide, measure)
            return looks[name].turned_into(target, pixels)

        return store.changed(stain, change)

    return shown


def _looks(store: TileStore, measure: Measure) -> dict[str, Look]:
    """Measure the stain of each slide that shows enough tissue, by its name."""
    looks: dict[str, Look] = {}
    for slide, name in enumerate(store.names):
        with suppress(StudyError):
            looks[name] = _look(store, slide, measure)
    if not looks:
        raise StudyError("No training slide shows enough tissue to measure its stain.")
    return looks


def _middle(looks: list[Look]) -> Look:
    """Return the stain whose numbers are nearest to the median of all."""
    numbers = np.array([np.concatenate([np.ravel(v) for v in _numbers(look)]) for look in looks])
    spread = np.maximum(numbers.std(axis=0), 1e-9)
    far = (np.abs(numbers - np.median(numbers, axis=0)) / spread).sum(axis=1)
    return looks[int(far.argmin())]


def _numbers(look: Any) -> list[NDArray[np.float64]]:
    return [getattr(look, field.name) for field in fields(look)]


def _look(store: TileStore, slide: int, measure: Measure) -> Look:
    tiles = np.flatnonzero(store.table.slide == slide)
    if not len(tiles):
        raise StudyError(f"{store.names[slide]}: no tile shows tissue to measure its stain on.")
    some = tiles[np.linspace(0, len(tiles) - 1, min(len(tiles), _TILES_OF_SLIDE)).astype(int)]
    try:
        return measure([store.pixels(int(index)) for index in some])
    except StainError as error:
        raise StudyError(f"{store.names[slide]}: {error}.") from error


def _write(path: Path, rows: list[StainRow]) -> None:
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(["stain", "jitter", "split", "tiles", "auroc", "auroc_low", "auroc_high"])
    for row in rows:
        values = asdict(row.auroc)
        table.writerow([row.stain, row.jitter, row.split, row.tiles, *values.values()])
    write_text(path, text.getvalue())
