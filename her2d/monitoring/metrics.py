"""What Prometheus reads: https://prometheus.io/docs/practices/naming/ for the names.

No slide's name is ever in a label; the number of series does not grow with what is processed.
"""

from collections.abc import Callable, Iterable
from typing import Protocol

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    Info,
    ProcessCollector,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from her2d.monitoring.reading import Reading

_SLIDE_SECONDS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200)
_WAITING_SECONDS = (1, 5, 15, 30, 60, 120, 300, 600, 1800, 3600, 14400, 43200, 86400)
# From a GPU's batch to full-size networks on a CPU, where a tile waits for minutes.
_BATCH_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_STATUSES = ("positive", "negative", "indeterminate")
_FATES = ("background", "non_tumor", "weak", "strong", "unreadable")


class Batch(Protocol):
    """One batch of one stage, as the pipeline reports it."""

    @property
    def stage(self) -> str: ...
    @property
    def seconds(self) -> float: ...
    @property
    def waits_s(self) -> tuple[float, ...]: ...


class Metrics:
    """Counters that the daemon advances, and gauges read from it at each scrape."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.build = Info("her2d_build", "Software, back end and bundle.", registry=registry)
        self.results = Counter(
            "her2d_slide_results", "Results by HER2 status.", ["her2_status"], registry=registry
        )
        self.tiles = Counter(
            "her2d_tiles",
            "Tiles of finished slides by tile_class.",
            ["tile_class"],
            registry=registry,
        )
        self.settling = Histogram(
            "her2d_slide_settle_seconds",
            "From a file's discovery until it was complete and queued.",
            buckets=_WAITING_SECONDS,
            registry=registry,
        )
        self.processing = Histogram(
            "her2d_slide_processing_seconds",
            "From a job's start to its result.",
            buckets=_SLIDE_SECONDS,
            registry=registry,
        )
        self.scan_to_result = Histogram(
            "her2d_scan_to_result_seconds",
            "From a file's discovery to its result.",
            buckets=_WAITING_SECONDS,
            registry=registry,
        )
        self.steps = Histogram(
            "her2d_slide_step_seconds",
            "How long a finished slide's steps took: hash, tiles, pictures.",
            ["step"],
            buckets=_SLIDE_SECONDS,
            registry=registry,
        )
        # A series that begins with its first event hides that event from rate() and increase().
        for status in _STATUSES:
            self.results.labels(status)
        for tile_class in _FATES:
            self.tiles.labels(tile_class)
        self._batches = Histogram(
            "her2d_stage_batch_seconds",
            "How long a stage worked on a batch.",
            ["stage"],
            buckets=_BATCH_SECONDS,
            registry=registry,
        )
        self._waits = Histogram(
            "her2d_stage_wait_seconds",
            "How long a tile waited for a stage.",
            ["stage"],
            buckets=_BATCH_SECONDS,
            registry=registry,
        )

    def observe_batch(self, batch: Batch) -> None:
        """Count one batch of a stage; called from the stage's thread."""
        self._batches.labels(batch.stage).observe(batch.seconds)
        waits = self._waits.labels(batch.stage)
        for wait in batch.waits_s:
            waits.observe(wait)

    def read_from(self, reading: Callable[[], Reading]) -> None:
        """Ask `reading` at every scrape, from the scraping thread."""
        self.registry.register(_Readings(reading))


class _Readings(Collector):
    def __init__(self, reading: Callable[[], Reading]) -> None:
        self._reading = reading

    def describe(self) -> Iterable[Metric]:
        return []  # Nothing is known before the first scrape; registering must not read.

    def collect(self) -> Iterable[Metric]:
        reading = self._reading()
        yield from _jobs(reading)
        yield from _stages(reading)
        yield from _storage(reading)
        yield from _gpus(reading)
        yield from _day(reading)


def _jobs(reading: Reading) -> Iterable[Metric]:
    jobs = GaugeMetricFamily("her2d_jobs", "Jobs in each state.", labels=["state"])
    for state, number in reading.jobs.items():
        jobs.add_metric([state], number)
    yield jobs
    slides = CounterMetricFamily(
        "her2d_slides", "Slides by how their job, or a try of it, ended.", labels=["outcome"]
    )
    for outcome, number in reading.outcomes.items():
        slides.add_metric([outcome], number)
    yield slides
    yield _gauge("her2d_backlog_files", "Files that wait for a result.", reading.waiting)
    yield _gauge(
        "her2d_overdue_files",
        "Files that were left unfinished for longer than a scanner pauses.",
        reading.overdue,
    )
    yield _gauge(
        "her2d_oldest_waiting_seconds",
        "Age of the new scan that has waited longest for its result; 0 where none waits.",
        reading.oldest_waiting_s,
    )
    yield _gauge(
        "her2d_last_success_timestamp_seconds",
        "When a slide last got a result.",
        reading.last_success_at,
    )
    yield _gauge(
        "her2d_last_scan_timestamp_seconds", "When a file last arrived.", reading.last_scan_at
    )
    yield _gauge(
        "her2d_progress_timestamp_seconds",
        "When the pipeline last moved, or last had nothing to do.",
        reading.progress_at,
    )
    yield _gauge(
        "her2d_webhook_waiting_events",
        "Events that the webhook's receiver has not taken yet.",
        reading.webhook_waiting,
    )
    yield _gauge(
        "her2d_intake_paused", "1 while nothing is taken for want of disk.", reading.intake_paused
    )
    yield _gauge(
        "her2d_unreachable_inboxes",
        "Inboxes that cannot be read, or whose share does not answer.",
        reading.unreachable_inboxes,
    )


def _stages(reading: Reading) -> Iterable[Metric]:
    families = (
        (CounterMetricFamily, "her2d_stage_tiles", "Tiles a stage worked on.", "tiles"),
        (CounterMetricFamily, "her2d_stage_batches", "Batches a stage worked on.", "batches"),
        (CounterMetricFamily, "her2d_stage_busy_seconds", "Time a stage worked.", "busy_s"),
        (GaugeMetricFamily, "her2d_stage_queue_tiles", "Tiles that wait.", "queue_tiles"),
        (GaugeMetricFamily, "her2d_stage_queue_capacity_tiles", "Room.", "queue_capacity"),
    )
    for kind, name, text, field in families:
        family = kind(name, text, labels=["stage"])
        for stage in reading.stages:
            family.add_metric([stage.name], getattr(stage, field))
        yield family
    yield CounterMetricFamily(
        "her2d_decode_tiles", "Tiles read from slides.", value=reading.decoded_tiles
    )
    yield CounterMetricFamily(
        "her2d_decode_wait_seconds",
        "Time that slides waited for their next tile to be read and decoded.",
        value=reading.decode_wait_s,
    )


def _storage(reading: Reading) -> Iterable[Metric]:
    yield _gauge(
        "her2d_database_readable", "0 while the database cannot be read.", reading.database_readable
    )
    yield _gauge("her2d_database_bytes", "The database with its log.", reading.database_bytes)
    yield _gauge(
        "her2d_last_backup_timestamp_seconds",
        "When the database was last backed up.",
        reading.last_backup_at,
    )
    free = GaugeMetricFamily("her2d_disk_free_bytes", "Room to write.", labels=["holds"])
    size = GaugeMetricFamily("her2d_disk_size_bytes", "The file system.", labels=["holds"])
    for volume in reading.volumes:
        free.add_metric([volume.holds], volume.free_bytes)
        size.add_metric([volume.holds], volume.size_bytes)
    yield free
    yield size


def _gpus(reading: Reading) -> Iterable[Metric]:
    """No series where there is no GPU."""
    used = GaugeMetricFamily(
        "her2d_gpu_memory_used_bytes", "GPU memory in use, by anybody.", labels=["gpu"]
    )
    size = GaugeMetricFamily("her2d_gpu_memory_size_bytes", "GPU memory.", labels=["gpu"])
    busy = GaugeMetricFamily(
        "her2d_gpu_busy_ratio", "Share of the last moments in which a kernel ran.", labels=["gpu"]
    )
    for gpu in reading.gpus:
        used.add_metric([str(gpu.number)], gpu.memory_used_bytes)
        size.add_metric([str(gpu.number)], gpu.memory_size_bytes)
        if gpu.busy_ratio is not None:
            busy.add_metric([str(gpu.number)], gpu.busy_ratio)
    yield from (used, size, busy)


def _day(reading: Reading) -> Iterable[Metric]:
    """What the results of the last 24 hours look like: how drift shows first."""
    day = reading.day
    yield _gauge("her2d_day_results", "Results of the last 24 hours.", day.results)
    yield _gauge("her2d_day_positive_ratio", "Share of them positive.", day.positive_ratio)
    yield _gauge(
        "her2d_day_tumor_tile_ratio", "Tumour tiles to tissue tiles.", day.tumor_tile_ratio
    )
    p = GaugeMetricFamily(
        "her2d_day_high_expression_ratio", "P of equation 1, its quartiles.", labels=["quantile"]
    )
    for quantile, value in day.high_expression.items():
        p.add_metric([f"{quantile:g}"], value)
    yield p
    yield _gauge(
        "her2d_day_stain_distance",
        "Median distance of stain from the bundle's reference, in its standard deviations.",
        day.stain_distance,
    )
    yield _gauge(
        "her2d_day_saturation", "Median of tissue's mean HSV saturation, 0 to 255.", day.saturation
    )
    yield _gauge(
        "her2d_day_saturation_distance",
        "Median distance of saturation from the bundle's reference, in its standard deviations.",
        day.saturation_distance,
    )
    flagged = GaugeMetricFamily(
        "her2d_day_flagged_ratio", "Share of slides with a quality flag.", labels=["flag"]
    )
    for flag, share in day.flagged_ratio.items():
        flagged.add_metric([flag], share)
    yield flagged


def _gauge(name: str, text: str, value: float | None) -> GaugeMetricFamily:
    """A gauge of one series, or of none where there is nothing to say."""
    family = GaugeMetricFamily(name, text)
    if value is not None:
        family.add_metric([], value)
    return family
