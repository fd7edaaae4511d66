"""Confusion matrix of slides (paper, section 2.3, Figure S2)."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Confusion:
    """Numbers of slides; HER2-positive is the positive class.

    Attributes:
        tp, fn, fp, tn: True positives, false negatives, false positives and true negatives.

    Raises:
        ValueError: A number is negative.
    """

    tp: int
    fn: int
    fp: int
    tn: int

    def __post_init__(self) -> None:
        if min(self.tp, self.fn, self.fp, self.tn) < 0:
            raise ValueError("numbers of slides must not be negative")

    @property
    def total(self) -> int:
        """Number of all slides."""
        return self.tp + self.fn + self.fp + self.tn

    @property
    def accuracy(self) -> float:
        """Share of slides predicted correctly, 0 to 1; NaN without slides."""
        return _share(self.tp + self.tn, self.total)

    @property
    def sensitivity(self) -> float:
        """Share of positive slides predicted positive, 0 to 1; NaN without positive slides."""
        return _share(self.tp, self.tp + self.fn)

    @property
    def specificity(self) -> float:
        """Share of negative slides predicted negative, 0 to 1; NaN without negative slides."""
        return _share(self.tn, self.tn + self.fp)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
