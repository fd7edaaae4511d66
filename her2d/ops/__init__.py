"""What the people who keep it running see and rely on."""

from her2d.ops.http import OpsServer
from her2d.ops.lock import AlreadyRunningError, held_by_us
from her2d.ops.log import configure_logging
from her2d.ops.metrics import Metrics, Reading, StageReading
from her2d.ops.notify import Notifier

__all__ = [
    "AlreadyRunningError",
    "Metrics",
    "Notifier",
    "OpsServer",
    "Reading",
    "StageReading",
    "configure_logging",
    "held_by_us",
]
