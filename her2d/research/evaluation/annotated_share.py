"""The annotated share of HER2-high tumour of a slide: what P of equation 1 is compared with."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from her2d.research.training.cohort import CohortSlide
from her2d.research.training.study import Study
from her2d.research.training.tile_store import TileStore
from her2d.research.training.train import open_tiles


@dataclass(frozen=True, slots=True)
class AnnotatedShare:
    """A slide's share of HER2-high tumour by its annotation, 0 to 1.

    Attributes:
        by_tile: equation 1 with the true class of each tumour tile, which is strong if at least
            half of its tumour is HER2-high (paper, section 4.4).
        by_area: HER2-high tumour pixels of all tumour pixels, which is what IHC is read by.
    """

    by_tile: float
    by_area: float


def annotated_shares(study: Study, slides: Sequence[CohortSlide]) -> dict[str, AnnotatedShare]:
    """Read the annotated shares of prepared slides, by name.

    Slides without tumour tiles are left out, and those of which a part of the tumour is not
    labelled, because the share of the rest may be another.

    Args:
        study: The study.
        slides: The slides.

    Raises:
        StudyError: A slide is not prepared.
    """
    return shares_of(open_tiles(study, slides))


def shares_of(store: TileStore) -> dict[str, AnnotatedShare]:
    """Return the annotated shares of a store's slides, see `annotated_shares`."""
    table = store.table
    found = {}
    for number, name in enumerate(store.names):
        of_slide = table.slide == number
        tumor = table.tumor_pixels[of_slide]
        gated = table.is_tumor[of_slide]
        known = table.labelled[of_slide]
        if not gated.any() or not known[tumor > 0].all():
            continue
        strong = gated & table.strong[of_slide]
        high = np.minimum(table.strong_pixels[of_slide], tumor)
        found[name] = AnnotatedShare(
            by_tile=float(tumor[strong].sum() / tumor[gated].sum()),
            by_area=float(high.sum() / tumor.sum()),
        )
    return found
