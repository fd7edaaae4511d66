"""What a contestant that scores a slide reports, in the peers' environment."""

from pathlib import Path
from typing import Any

import numpy as np
import skops.io
from numpy.typing import NDArray

TILE_PX = 512
TUMOR_FRACTION = 0.1


class Forest:
    """The bundle's random forest, by scikit-learn.

    Args:
        path: the bundle's integrator.
        tile_cut: probability above which a tile is strong.
    """

    def __init__(self, path: Path, tile_cut: float) -> None:
        self._model = skops.io.load(path, trusted=skops.io.get_untrusted_types(file=path))
        self._tile_cut = tile_cut

    def strong(self, p_folds: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Return which of T tiles are strong, given float32 (T, 5)."""
        if len(p_folds) == 0:
            return np.empty(0, np.bool_)
        p: NDArray[np.float64] = self._model.predict_proba(p_folds)[:, 1]
        return p > self._tile_cut


def has_tumor(tumor_pixels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which tiles go on to the classifiers."""
    return np.asarray(tumor_pixels > TUMOR_FRACTION * TILE_PX * TILE_PX, np.bool_)


def found(
    tumor_pixels: NDArray[np.int64],
    p_folds: NDArray[np.float32],
    forest: Forest,
    mask: NDArray[np.bool_],
) -> dict[str, Any]:
    """Score a slide and return what it rests on.

    Args:
        tumor_pixels: int (tiles,), of all tiles, row by row.
        p_folds: float32 (tumour tiles, 5), in the same order.
        forest: says which of these are strong.
        mask: bool (tiles, 512, 512), the tumour pixels.
    """
    pixels = tumor_pixels[has_tumor(tumor_pixels)]
    strong = forest.strong(p_folds)
    percent = 100 * pixels[strong].sum() / pixels.sum() if len(pixels) else None
    return {
        "tumor_pixels": tumor_pixels.tolist(),
        "p_folds": p_folds.tolist(),
        "strong": strong.tolist(),
        "percent": None if percent is None else float(percent),
        "mask": mask,
    }
