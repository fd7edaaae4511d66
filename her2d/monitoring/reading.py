"""What is asked of the daemon at each scrape."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from her2d.system.gpus import GpuReading


@dataclass(frozen=True, slots=True)
class StageReading:
    """One stage of the pipeline at one moment."""

    name: str
    tiles: int
    batches: int
    busy_s: float
    queue_tiles: int
    queue_capacity: int


@dataclass(frozen=True, slots=True)
class VolumeReading:
    """The file system that holds one of the daemon's folders: `database`, `heatmaps`, `inbox`,
    `inbox_2`..."""

    holds: str
    free_bytes: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class DayReading:
    """The current results of the last 24 hours; None where there is nothing to take a share of.

    Attributes:
        high_expression: quantile -> P of equation 1 as a fraction, over slides that have one.
        stain_distance: median distance of slides' stain from the bundle's reference, in its
            standard deviations.
        saturation, saturation_distance: medians of slides' mean saturation of tissue, 0..255, and
            of its distance from the reference, likewise.
        flagged_ratio: quality flag -> share of slides that carry it.
    """

    results: int | None = None
    positive_ratio: float | None = None
    tumor_tile_ratio: float | None = None
    high_expression: Mapping[float, float] = field(default_factory=dict)
    stain_distance: float | None = None
    saturation: float | None = None
    saturation_distance: float | None = None
    flagged_ratio: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reading:
    """The daemon at one moment; times are seconds since 1970.

    Attributes:
        database_readable: where it is not, whatever it would tell is None or empty.
        jobs: state -> jobs in it now.
        decoded_tiles, decode_wait_s: tiles read from slides, and the seconds slides waited for
            them, since the daemon started.
        overdue: files that the scanner has left unfinished for too long.
        oldest_waiting_s: age of the new scan that waits longest, those aside; 0 where none does.
        webhook_waiting: events that the webhook is still to tell; None without a webhook.
        unreachable_inboxes: inboxes that cannot be read, or do not answer.
        outcomes: `done`, `failed`, ... -> jobs that ended so since the daemon started.
    """

    database_readable: bool = True
    jobs: Mapping[str, int] = field(default_factory=dict)
    outcomes: Mapping[str, int] = field(default_factory=dict)
    stages: tuple[StageReading, ...] = ()
    decoded_tiles: int = 0
    decode_wait_s: float = 0.0
    waiting: int | None = None
    overdue: int | None = None
    oldest_waiting_s: float | None = None
    last_scan_at: float | None = None
    last_success_at: float | None = None
    last_backup_at: float | None = None
    webhook_waiting: int | None = None
    progress_at: float | None = None
    intake_paused: bool = False
    unreachable_inboxes: int = 0
    database_bytes: int | None = None
    volumes: tuple[VolumeReading, ...] = ()
    gpus: tuple[GpuReading, ...] = ()
    day: DayReading = DayReading()
