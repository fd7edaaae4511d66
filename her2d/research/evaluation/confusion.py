"""Slides predicted right and wrong (paper, section 2.3, Figure S2)."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Confusion:
    """Counts of slides; HER2-positive is the positive class.

    Raises:
        ValueError: a count is negative.
    """

    tp: int
    fn: int
    fp: int
    tn: int

    def __post_init__(self) -> None:
        if min(self.tp, self.fn, self.fp, self.tn) < 0:
            raise ValueError("a count of slides is not negative")

    @property
    def total(self) -> int:
        return self.tp + self.fn + self.fp + self.tn

    @property
    def accuracy(self) -> float:
        """Share of slides called right; NaN without slides, as the two below."""
        return _share(self.tp + self.tn, self.total)

    @property
    def sensitivity(self) -> float:
        """Share of positive slides called positive."""
        return _share(self.tp, self.tp + self.fn)

    @property
    def specificity(self) -> float:
        """Share of negative slides called negative."""
        return _share(self.tn, self.tn + self.fp)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
