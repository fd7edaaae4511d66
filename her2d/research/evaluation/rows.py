"""What rows of the report are made of; NaN becomes None, because JSON does not have NaN."""

import math
from typing import Annotated, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict

from her2d.calibration.proportion import Estimate


def _nan_to_none(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value


Number: TypeAlias = Annotated[float | None, BeforeValidator(_nan_to_none)]
"""A metric; None if it is not defined."""


class Row(BaseModel):
    """A frozen part of the report."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Interval(Row):
    """A metric and the limits of its 95 % interval."""

    value: Number
    low: Number
    high: Number

    @classmethod
    def of(cls, estimate: Estimate) -> "Interval":
        """Convert an estimate, with None for NaN."""
        return cls(value=estimate.value, low=estimate.low, high=estimate.high)

    def text(self, digits: int = 3) -> str | None:
        """Return the metric with its limits, such as "0.912 (0.800 to 0.971)", or None.

        Limits are joined by a word, because a metric such as the net benefit may be negative. A
        metric whose limits are not defined is there without them.
        """
        if self.value is None:
            return None
        if self.low is None or self.high is None:
            return f"{self.value:.{digits}f}"
        return f"{self.value:.{digits}f} ({self.low:.{digits}f} to {self.high:.{digits}f})"
