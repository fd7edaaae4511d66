"""HER2 status by immunohistochemistry (IHC) and in-situ hybridisation (FISH)."""

from enum import StrEnum


class Ihc(StrEnum):
    """The IHC score of a slide's tissue."""

    ZERO = "0"
    ONE = "1+"
    TWO = "2+"
    THREE = "3+"


class Fish(StrEnum):
    """Whether FISH found the gene of HER2 amplified."""

    AMPLIFIED = "amplified"
    NOT_AMPLIFIED = "not amplified"


class Her2Outcome(StrEnum):
    """What IHC and FISH say; `equivocal` is neither, and counts in no rate."""

    POSITIVE = "positive"
    NEGATIVE = "negative"
    EQUIVOCAL = "equivocal"


def her2_outcome(ihc: Ihc, fish: Fish | None) -> Her2Outcome:
    """Return the HER2 status: positive is IHC 3+, or IHC 2+ with FISH amplified.

    IHC 2+ without FISH is equivocal. With every other score FISH changes nothing.
    """
    if ihc is Ihc.THREE:
        return Her2Outcome.POSITIVE
    if ihc is not Ihc.TWO:
        return Her2Outcome.NEGATIVE
    if fish is None:
        return Her2Outcome.EQUIVOCAL
    return Her2Outcome.POSITIVE if fish is Fish.AMPLIFIED else Her2Outcome.NEGATIVE
