"""What the people who keep it running see."""

from her2d.ops.log import configure_logging

__all__ = ["configure_logging"]
