"""How well a mask agrees with the pathologist's (paper, Table S1)."""

import numpy as np
from numpy.typing import NDArray


def pixel_confusion(truth: NDArray[np.uint8], predicted: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Pixels by truth (rows) and prediction (columns), non-tumour first: int64 (2, 2).

    Args:
        truth, predicted: uint8 of one shape, 0 or 1.
    """
    return np.bincount((2 * truth + predicted).ravel(), minlength=4).reshape(2, 2)


def mean_iou(counts: NDArray[np.int64]) -> float:
    """Mean intersection over union of a (classes, classes) confusion matrix.

    A class that is in neither truth nor prediction is left out; NaN where none is there.
    """
    intersection = np.diag(counts)
    union = counts.sum(axis=0) + counts.sum(axis=1) - intersection
    present = union > 0
    if not present.any():
        return float("nan")
    return float(np.mean(intersection[present] / union[present]))
