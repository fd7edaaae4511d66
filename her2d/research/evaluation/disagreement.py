"""How much the five sub-classifiers disagree about the same tile.

An integrator that is fitted on out-of-fold predictions never sees them disagree, so the more they
do, the less it knows about new slides. This analysis is not in the paper.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from her2d.research.evaluation.report import DisagreementRow
from her2d.research.training.cohort import Split
from her2d.research.training.out_of_fold import FoldProbabilities


def disagreement_rows(sets: Mapping[Split, FoldProbabilities]) -> tuple[DisagreementRow, ...]:
    """Measure the disagreement of the sub-classifiers on slides that none of them learned from.

    Args:
        sets: Predictions by split; splits without tiles are left out.
    """
    return tuple(
        DisagreementRow(
            set=split.value,
            tiles=len(tiles.p),
            spread=float(tiles.p.std(axis=1).mean()),
            not_unanimous=_not_unanimous(tiles.p),
            not_unanimous_strong=_not_unanimous(tiles.p[tiles.strong]),
        )
        for split, tiles in sets.items()
        if len(tiles.p)
    )


def _not_unanimous(p: NDArray[np.float32]) -> float | None:
    """Return the share of tiles that some of the five call strong, and others weak."""
    votes = (p > 0.5).sum(axis=1)
    return float(((votes > 0) & (votes < p.shape[1])).mean()) if len(p) else None
