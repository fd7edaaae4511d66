"""What the paper reports (Liao et al. 2025, doi:10.1002/advs.202408451).

Tables S1 to S4 are quoted as its sections 2.3, 2.4 and 4 quote them: the supporting information
itself is not here, so that what only stands there is None.
"""

from dataclasses import dataclass

from her2d.research.evaluation.confusion import Confusion


@dataclass(frozen=True, slots=True)
class PaperSet:
    """One test set of the paper.

    Attributes:
        slides, patients, positive: their numbers (section 2.1).
        miou: of SegNet (section 4, Table S1).
        tile_auroc: of the integrated classifier; None where the text has none (Table S3).
        tile_sensitivity: the same.
        confusion: of the slides (Tables 3 and 4).
        false_positives_show: the feature that Table 3 or 4 finds in false positives, with its P.
    """

    slides: int
    patients: int
    positive: int
    miou: float
    tile_auroc: float | None
    tile_sensitivity: float | None
    confusion: Confusion
    false_positives_show: tuple[str, float]


FOLD_AUROC = 0.9379
"""Mean of ResNet50's five held-out folds (section 2.3, Table S2)."""

INTERNAL = PaperSet(
    slides=115,
    patients=111,
    positive=18,
    miou=0.8606,
    tile_auroc=None,
    tile_sensitivity=None,
    confusion=Confusion(tp=16, fn=2, fp=9, tn=88),
    false_positives_show=("adenoid_differentiation", 0.014),
)

EXTERNAL = PaperSet(
    slides=102,
    patients=101,
    positive=21,
    miou=0.8207,
    tile_auroc=0.9769,
    tile_sensitivity=0.9373,
    confusion=Confusion(tp=18, fn=3, fp=8, tn=73),
    false_positives_show=("papillary_differentiation", 0.018),
)
