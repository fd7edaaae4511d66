"""Five folds, stratified by HER2 status at slide level and grouped by patient (section 4.3)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from her2d.training.tiles import CohortSlide

FOLDS = 5


def fold_of_slides(slides: Sequence[CohortSlide], seed: int) -> NDArray[np.int64]:
    """The fold each slide is held out in, int64 (S,); no patient is on both sides of any fold.

    Raises:
        ValueError: a HER2 status has fewer slides than there are folds.
    """
    statuses = [slide.her2_status for slide in slides]
    patients = [slide.patient for slide in slides]
    splitter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    fold = np.empty(len(slides), np.int64)
    for number, (_, held_out) in enumerate(splitter.split(statuses, statuses, patients)):
        fold[held_out] = number
    return fold
