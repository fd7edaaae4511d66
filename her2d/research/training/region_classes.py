"""What a pathologist called a region, and what that means for learning from it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class RegionClass(StrEnum):
    """What a region was annotated as; IGNORED ones are left out, whatever they are."""

    TUMOR = "tumor"
    HIGH_EXPRESSION = "high_expression"
    EXCLUDED = "excluded"
    IGNORED = "ignore"


DEFAULT_CLASSES: Mapping[str, RegionClass] = {
    "": RegionClass.TUMOR,
    "tumor": RegionClass.TUMOR,
    "tumour": RegionClass.TUMOR,
    "her2 high": RegionClass.HIGH_EXPRESSION,
    "high expression": RegionClass.HIGH_EXPRESSION,
    "strong": RegionClass.HIGH_EXPRESSION,
    "exclude": RegionClass.EXCLUDED,
    "excluded": RegionClass.EXCLUDED,
    "artifact": RegionClass.EXCLUDED,
    "artefact": RegionClass.EXCLUDED,
    "blur": RegionClass.EXCLUDED,
    "contamination": RegionClass.EXCLUDED,
    # QuPath has these from the start.
    "stroma": RegionClass.IGNORED,
    "immune cells": RegionClass.IGNORED,
    "necrosis": RegionClass.IGNORED,
    "other": RegionClass.IGNORED,
    "region": RegionClass.IGNORED,
    "ignore": RegionClass.IGNORED,
}
# QuPath derives "Tumor: Positive" from Tumor by a stain's intensity, cell by cell: still tumour.
_INTENSITIES = frozenset({"positive", "negative", "1+", "2+", "3+"})


@dataclass(frozen=True, slots=True)
class RegionClasses:
    """Maps names to classes: `own` first, then `DEFAULT_CLASSES`."""

    own: Mapping[str, RegionClass] = field(default_factory=dict)

    def of(self, name: str) -> RegionClass:
        """The class of a region of this name, such as `Tumor` or `Tumor: Positive`.

        Raises:
            ValueError: nobody said what the name means.
        """
        known = {**DEFAULT_CLASSES, **{_key(own): found for own, found in self.own.items()}}
        if _key(name) in known:
            return known[_key(name)]
        base, *derived = [_key(part) for part in name.split(":")]
        if known.get(base) is RegionClass.IGNORED:
            return RegionClass.IGNORED
        said = [known.get(part) for part in (base, *derived) if part not in _INTENSITIES]
        found = said[-1] if said and None not in said else None
        if found is not None:
            return found
        raise ValueError(
            f"a region is called {name!r}; known are {', '.join(filter(None, known))}. Say what it"
            f" is: --class {name!r}=tumor, high_expression, excluded or ignore"
        )

    def are(self, names: Mapping[str, str]) -> bool:
        """Whether each of these names still means what it did."""
        try:
            return all(self.of(name) == was for name, was in names.items())
        except ValueError:
            return False


def _key(name: str) -> str:
    return name.strip().rstrip("*").lower().replace("_", " ")
