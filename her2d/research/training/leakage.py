"""That a study's networks learned from its training slides of today and from nothing else.

A slide may change its split after the networks have learned from it, and folds may be made anew;
then neither a test set nor a held-out fold is one any more. Slides that are added to any other
split change nothing here.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from her2d.research.training.folds import FOLDS, FoldsError
from her2d.research.training.provenance import PROVENANCE_FILE, ProvenanceError, read_provenance
from her2d.research.training.study import Study, StudyError
from her2d.research.training.train import (
    classifier_task,
    segmenter_task,
    tiles_of_saved_folds,
)


def check_leakage(
    study: Study, *, segmenters: Sequence[str] = (), classifiers: Sequence[str] = ()
) -> None:
    """Compare what networks learned from with the training slides, labels and folds there are now.

    Args:
        study: with these networks trained.
        segmenters, classifiers: their names; of a classifier all five folds.

    Raises:
        StudyError: a network learned from something else, or does not say from what.
    """
    try:
        tiles = tiles_of_saved_folds(study)
    except FoldsError as error:
        raise StudyError(f"Which slides the networks have not seen is unknown: {error}") from error
    task = segmenter_task(tiles).digest()
    _compare(((study.segmenter(name), task) for name in segmenters), "segmenter")
    for fold in range(FOLDS):
        task = classifier_task(tiles, fold).digest()
        _compare(((study.classifier(name, fold), task) for name in classifiers), "classifiers")


def _compare(networks: Iterable[tuple[Path, str]], kind: str) -> None:
    for directory, expected in networks:
        try:
            found = read_provenance(directory / PROVENANCE_FILE).data
        except (ProvenanceError, OSError) as error:
            raise StudyError(f"What {directory} learned from is unknown: {error}") from error
        if found is None:
            raise StudyError(
                f"{directory} does not say what it learned from: remove it and run her2d train"
                f" {kind} again."
            )
        if found != expected:
            raise StudyError(
                f"{directory} learned from other slides, labels or folds than the study has now:"
                " put the cohort table and folds.json back as they were, or remove it and train"
                " anew."
            )
