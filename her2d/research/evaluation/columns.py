"""Which columns of a cohort table are known by their name, and which hold numbers."""

from collections.abc import Callable, Iterable, Sequence
from enum import Enum

from her2d.research.training.cohort import CohortSlide
from her2d.system.numerals import read_number

MOST_LEVELS = 6
"""A column with more different values is not one of categories."""
MOST_GROUPS = 12
"""Likewise of the known columns, such as centres, which may be more."""


class KnownColumn(Enum):
    """A column with a meaning for the report, and the names by which it is found."""

    AGE = ("age",)
    SEX = ("sex", "gender")
    DIFFERENTIATION = ("differentiation", "grade")
    CENTER = ("center", "centre", "hospital", "institution", "site")
    SCANNER = ("scanner", "scanner_model")
    SPECIMEN = ("specimen",)
    MAGNIFICATION = ("magnification",)

    def find(self, slides: Iterable[CohortSlide]) -> str | None:
        """Return the column's name in this cohort, or None if the cohort does not have it.

        Names are compared without case; a name that comes first in the list wins.
        """
        names = dict.fromkeys(name for slide in slides for name in slide.morphology)
        by_key = {name.strip().lower().replace(" ", "_"): name for name in names}
        return next((by_key[key] for key in self.value if key in by_key), None)


def values_of(slides: Sequence[CohortSlide], column: str) -> list[str]:
    """Return a column's values in the order of the slides; "" where a slide has none."""
    return [*map(value_in(column), slides)]


def value_in(column: str) -> Callable[[CohortSlide], str]:
    """Return what gives a slide's value in a column; "" where it has none."""
    return lambda slide: slide.morphology.get(column, "")


def is_column_of_numbers(values: Iterable[str]) -> bool:
    """Return whether a column holds nothing but numbers, more than two different ones."""
    found = {value for value in values if value}
    return len(found) > 2 and all(read_number(value) is not None for value in found)
