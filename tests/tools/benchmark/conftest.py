"""Fixtures for running commands."""

from laboratory import her2d, laboratory

__all__ = ["her2d", "laboratory"]
