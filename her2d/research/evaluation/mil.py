"""Predict test slides by the baseline that learns from slide labels."""

import csv
import io

import numpy as np

from her2d.pipeline.outcome import is_tumor
from her2d.research.evaluation.slide_predictions import IntegratorPrediction, PredictedSlide
from her2d.research.training.bags import features_file, read_features
from her2d.research.training.cohort import Status
from her2d.research.training.mil import TrainedMil
from her2d.research.training.study import Study, write_text
from her2d.research.training.train import open_tiles

MIL = "attention MIL"
"""Its name beside the integrators' in Table S4."""
ATTENTION_FILE = "attention.csv"


class MilPredictions:
    """Predictions of test slides, one after the other, with the attention to each tile.

    Args:
        study: The study.
        mil: The trained baseline.
    """

    def __init__(self, study: Study, mil: TrainedMil) -> None:
        self._study, self._mil = study, mil
        self._attention = io.StringIO()
        self._rows = csv.writer(self._attention, lineterminator="\n")
        self._rows.writerow(["slide", "column", "row", "attention"])

    def predict(self, found: PredictedSlide) -> IntegratorPrediction:
        """Predict a slide from the tumour tiles that the pipeline found.

        Whether a slide can be called at all, the pipeline decides for the baseline too. Tiles that
        are left out of the study are left out here.

        Args:
            found: The slide with the pipeline's outcome.

        Raises:
            StudyError: The slide is not prepared.
            EncoderError: The encoder cannot encode a tile.
        """
        slide, outcome = found.slide, found.outcome
        store = open_tiles(self._study, [slide])
        column, row = store.table.column, store.table.row
        tiles = np.flatnonzero(is_tumor(outcome.tile_class)[row, column])
        predicted, p = Status.INDETERMINATE.value, float("nan")
        if len(tiles):
            path = features_file(self._study, slide.name, store, tiles, self._mil.encoder)
            p, attention = self._mil.predict(read_features(path))
            self._rows.writerows(
                [slide.name, int(column[i]), int(row[i]), f"{weight:.6g}"]
                for i, weight in zip(tiles, attention, strict=True)
            )
        if len(tiles) and outcome.score.her2_status.value != predicted:
            is_positive = p >= self._mil.decision.threshold
            predicted = (Status.POSITIVE if is_positive else Status.NEGATIVE).value
        return IntegratorPrediction(
            slide.split.value, slide.patient, slide.her2_status.value, predicted, p
        )

    def write_attention(self) -> None:
        """Write the attention to each tile of the slides so far into the study's evaluation.

        Raises:
            OSError: The file cannot be written.
        """
        write_text(self._study.evaluation / ATTENTION_FILE, self._attention.getvalue())
