"""Which stated values can be those of a scan."""

MAGNIFICATIONS = (0.5, 200.0)
"""Of an objective."""
MPP = (0.02, 40.0)
"""Micrometres per level-0 pixel."""


def plausible(value: float | None, bounds: tuple[float, float]) -> float | None:
    """Return a stated value, or None where it is not stated or not within the bounds."""
    return value if value is not None and bounds[0] <= value <= bounds[1] else None
