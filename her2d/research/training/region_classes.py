"""Map the names of annotated regions to the classes that labels are made from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class RegionClass(StrEnum):
    """The meaning of an annotated region; IGNORED regions do not affect the labels."""

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
    # Default classes of QuPath.
    "stroma": RegionClass.IGNORED,
    "immune cells": RegionClass.IGNORED,
    "necrosis": RegionClass.IGNORED,
    "other": RegionClass.IGNORED,
    "region": RegionClass.IGNORED,
    "ignore": RegionClass.IGNORED,
}
# QuPath derives "Tumor: Positive" from "Tumor" by stain intensity; the region is still tumour.
_INTENSITIES = frozenset({"positive", "negative", "1+", "2+", "3+"})


@dataclass(frozen=True, slots=True)
class RegionClasses:
    """Mapping from region names to classes.

    Names in `own` take precedence over `DEFAULT_CLASSES`. Names match regardless of case, of `_`
    instead of a blank, and of QuPath's trailing `*`.

    Attributes:
        own: Classes of a laboratory's own names.
    """

    own: Mapping[str, RegionClass] = field(default_factory=dict)

    def of(self, name: str) -> RegionClass:
        """Return the class of a region's name, such as `Tumor` or `Tumor: Positive`.

        Raises:
            ValueError: The name is not known.
        """
        known = {**DEFAULT_CLASSES, **{_key(own): found for own, found in self.own.items()}}
        if _key(name) in known:
            return known[_key(name)]
        base, *derived = [_key(part) for part in name.split(":")]
        if known.get(base) is RegionClass.IGNORED:
            return RegionClass.IGNORED
        classes = [known.get(part) for part in (base, *derived) if part not in _INTENSITIES]
        found = classes[-1] if classes and None not in classes else None
        if found is not None:
            return found
        raise ValueError(
            f"the region class {name!r} is not known. Known are {', '.join(filter(None, known))}."
            f" Add --class {name!r}=tumor, high_expression, excluded or ignore"
        )

    def agree_with(self, earlier: Mapping[str, str]) -> bool:
        """Return whether each name still has the class it had in `earlier`."""
        try:
            return all(self.of(name) == previous for name, previous in earlier.items())
        except ValueError:
            return False


def _key(name: str) -> str:
    return name.strip().rstrip("*").lower().replace("_", " ")
