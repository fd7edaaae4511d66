"""A laboratory to run commands in."""

from laboratory import her2d, laboratory

__all__ = ["her2d", "laboratory"]
