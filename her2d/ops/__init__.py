"""What the people who keep it running see and rely on."""

from her2d.ops.http import CannotListenError, OpsServer, address
from her2d.ops.lock import AlreadyRunningError, held_by_us, require_unheld
from her2d.ops.log import configure_logging
from her2d.ops.metrics import Metrics
from her2d.ops.notify import Notifier
from her2d.ops.nvidia import Gpus
from her2d.ops.pseudonyms import Pseudonyms
from her2d.ops.reading import DayReading, Reading, StageReading, VolumeReading
from her2d.ops.uncaught import log_uncaught

__all__ = [
    "AlreadyRunningError",
    "CannotListenError",
    "DayReading",
    "Gpus",
    "Metrics",
    "Notifier",
    "OpsServer",
    "Pseudonyms",
    "Reading",
    "StageReading",
    "VolumeReading",
    "address",
    "configure_logging",
    "held_by_us",
    "log_uncaught",
    "require_unheld",
]
