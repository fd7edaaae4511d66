"""Which slides to send to IHC for a wanted sensitivity: conformal risk control. Pure functions.

A slide that is called negative is sent to IHC if its P is at least a cut below the threshold. A
HER2-positive slide is missed if it is called negative and not sent, so the share of missed slides
grows with the cut. Conformal risk control (Angelopoulos et al. 2022, "Conformal Risk Control")
takes the largest cut at which the missed slides of the calibration, plus one, are at most 1 -
sensitivity of those slides plus one. The next positive slide that is like them is then missed with
a probability of 1 - sensitivity at the most, averaged over calibrations and for any distribution of
P. Slides of one patient are not independent: the loss is that of a patient, the share of missed
slides among the patient's positive ones.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from her2d.calibration.proportion import CONFIDENCE


@dataclass(frozen=True, slots=True)
class IhcCut:
    """The cut of P from which a slide that is called negative is sent to IHC.

    Attributes:
        share: the cut, 0 to 1.
        slides, patients: number of HER2-positive slides that it was chosen on.
        sensitivity_at_least: limit above which the sensitivity lies for 95 of 100 calibrations;
            the wanted sensitivity is reached on average over calibrations.
    """

    share: float
    slides: int
    patients: int
    sensitivity_at_least: float


def fewest_positive_patients(sensitivity: float) -> int:
    """Return the least number of HER2-positive patients that a wanted sensitivity needs."""
    return math.ceil(1 / _tolerated(sensitivity)) - 1


def find_ihc_cut(
    share: NDArray[np.float64], patient: Sequence[str], sensitivity: float, threshold: float
) -> IhcCut:
    """Choose the largest cut, up to the threshold, with which the wanted sensitivity is reached.

    Args:
        share: P of HER2-positive slides with a call, float64 (S,), 0 to 1.
        patient: their patients, S names.
        sensitivity: wanted share of HER2-positive slides that are called positive or sent to IHC.
        threshold: P from which a slide is called positive.

    Raises:
        ValueError: there are fewer than `fewest_positive_patients` patients.
    """
    slides_of = Counter(patient)
    patients = len(slides_of)
    if patients < fewest_positive_patients(sensitivity):
        raise ValueError(
            f"a sensitivity of {100 * sensitivity:g} % needs HER2-positive slides of"
            f" {fewest_positive_patients(sensitivity)} patients, and there are {patients}"
        )
    most_missed = _tolerated(sensitivity) * (patients + 1) - 1
    order = np.argsort(share, kind="stable")
    missed = Fraction(0)
    cut = float(share[order[0]])
    for number, index in enumerate(order):
        # Slides with the same P are missed together.
        if number == 0 or share[index] > cut:
            if missed > most_missed:
                break
            cut = float(share[index])
        missed += Fraction(1, slides_of[patient[index]])
    cut = min(cut, threshold)
    lost = _lost(share < cut, patient, slides_of)
    return IhcCut(
        share=cut,
        slides=len(share),
        patients=patients,
        sensitivity_at_least=sensitivity_at_least(patients, lost),
    )


def sensitivity_at_least(patients: int, missed: float) -> float:
    """Return the limit that the sensitivity of a cut exceeds in 95 of 100 calibrations.

    If patients have one slide and P is continuous, the sensitivity of the cut at the k-th smallest
    P of n has the Beta distribution of n - k + 1 and k.

    Args:
        patients: number of HER2-positive patients.
        missed: how many of them are below the cut.
    """
    from scipy.special import betaincinv  # only a calibration needs it

    return float(betaincinv(patients - missed, missed + 1, 1 - CONFIDENCE))


def _lost(below: NDArray[np.bool_], patient: Sequence[str], slides_of: Counter[str]) -> float:
    missed = (name for name, is_below in zip(patient, below, strict=True) if is_below)
    return float(sum(Fraction(1, slides_of[name]) for name in missed))


def _tolerated(sensitivity: float) -> Fraction:
    """Return the share of positive slides that may be missed, of the decimal number as written."""
    if not 0 < sensitivity < 1:
        raise ValueError("a sensitivity is a share between 0 and 1")
    return 1 - Fraction(str(sensitivity))
