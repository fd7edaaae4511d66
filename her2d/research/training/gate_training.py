"""Train the segmenters that gate the training tiles, and save their predictions."""

import numpy as np

from her2d.method import FOLDS
from her2d.research.training.gate import Gate, check_gate, gate_directories, predicted_tumor_pixels
from her2d.research.training.leakage import check_leakage
from her2d.research.training.model_selection import select_segmenter
from her2d.research.training.recipe import GateSource, Recipe
from her2d.research.training.study import Study, write_text
from her2d.research.training.train import train_segmenter, training_tiles


def train_gate(study: Study, recipe: Recipe, *, show_progress: bool = False) -> None:
    """Predict the training tiles' tumour for the classifiers, unless that was done before.

    Four further segmenters are trained like the best one, each without another fold. Nothing is
    done if the recipe gates by the annotation. A stopped training is continued.

    Args:
        study: Study with trained segmenters.
        recipe: The study's recipe.
        show_progress: Show a progress bar.

    Raises:
        StudyError, FoldsError, FitError: A segmenter is missing or cannot be trained, or the
            classifiers were trained on tiles that are gated otherwise.
        OSError: The study cannot be written.
    """
    if recipe.gate is GateSource.ANNOTATED or study.gate.is_file() or study.classifiers.is_dir():
        check_gate(study, recipe)
        return
    name = select_segmenter(study, recipe)
    check_leakage(study, segmenters=[name])
    tiles = training_tiles(study, recipe)
    for fold in range(1, FOLDS):
        train_segmenter(study, recipe, name, fold=fold, show_progress=show_progress)
    predicted = np.zeros(len(tiles.store), np.int64)
    for fold, directory in enumerate(gate_directories(study, name)):
        held_out = np.flatnonzero(tiles.fold == fold)
        predicted[held_out] = predicted_tumor_pixels(directory, name, tiles.store, held_out)
    by_slide = {
        slide: tuple(predicted[tiles.store.table.slide == number].tolist())
        for number, slide in enumerate(tiles.store.names)
    }
    write_text(study.gate, Gate(segmenter=name, tumor_pixels=by_slide).model_dump_json())
