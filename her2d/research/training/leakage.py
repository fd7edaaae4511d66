"""Check that a study's networks learned from its current training slides and from no others.

After networks were trained, a slide may be moved to another split or the folds may be made again.
Then a test set, or a held-out fold, may contain slides that the networks learned from. Adding
slides to a split other than `train` does not matter here.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from her2d.method import FOLDS
from her2d.research.training.folds import FoldsError
from her2d.research.training.gate import gate_directories, gated_by_saved, read_gate
from her2d.research.training.provenance import (
    PROVENANCE_FILE,
    ProvenanceError,
    read_provenance,
)
from her2d.research.training.study import Study, StudyError
from her2d.research.training.train import (
    classifier_task,
    segmenter_task,
    tiles_of_saved_folds,
)


def check_leakage(
    study: Study, *, segmenters: Sequence[str] = (), classifiers: Sequence[str] = ()
) -> None:
    """Compare the data that networks learned from with the study's current training data.

    Args:
        study: Study with these networks trained.
        segmenters: Names of segmenters.
        classifiers: Names of classifiers, of which all five folds are checked.

    Raises:
        StudyError: A network learned from other slides, labels or folds, or its provenance cannot
            be read.
    """
    try:
        tiles = tiles_of_saved_folds(study)
    except FoldsError as error:
        raise StudyError(f"Cannot check for leakage: {error}") from error
    task = segmenter_task(tiles).digest()
    _compare(((study.segmenter(name), task) for name in segmenters), "segmenter")
    gate = read_gate(study) if classifiers else None
    if gate is not None:
        for fold, directory in enumerate(gate_directories(study, gate.segmenter)):
            _compare([(directory, segmenter_task(tiles, fold).digest())], "classifiers")
    gated = replace(tiles, store=gated_by_saved(study, tiles.store)) if classifiers else tiles
    for fold in range(FOLDS):
        task = classifier_task(gated, fold).digest()
        _compare(((study.classifier(name, fold), task) for name in classifiers), "classifiers")


def _compare(networks: Iterable[tuple[Path, str]], command: str) -> None:
    for directory, expected in networks:
        try:
            found = read_provenance(directory / PROVENANCE_FILE).data
        except (ProvenanceError, OSError) as error:
            raise StudyError(
                f"Cannot read from {directory / PROVENANCE_FILE} which slides the network learned"
                f" from. Remove its folder and run `her2d train {command}` again."
            ) from error
        if found != expected:
            raise StudyError(
                f"{directory} learned from other slides, labels or folds than the study has now."
                " Restore the cohort table and folds.json, or remove the folder and train again."
            )
