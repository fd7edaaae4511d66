"""What Prometheus reads: https://prometheus.io/docs/practices/naming/ for the names.

No slide's name is ever in a label; the number of series does not grow with what is processed.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_SECONDS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200)


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
class Reading:
    """What is asked of the daemon at each scrape."""

    jobs: Mapping[str, int]
    stages: tuple[StageReading, ...]


class Metrics:
    """Counters that the daemon advances, and gauges read from it at each scrape."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.build = Info("her2d_build", "Software, back end and bundle.", registry=self.registry)
        self.slides = Counter(
            "her2d_slides",
            "Slides by how their job ended.",
            ["outcome"],
            registry=self.registry,
        )
        self.results = Counter(
            "her2d_slide_results",
            "Results by HER2 status.",
            ["her2_status"],
            registry=self.registry,
        )
        self.tiles = Counter(
            "her2d_tiles", "Tiles of finished slides by fate.", ["fate"], registry=self.registry
        )
        self.processing = Histogram(
            "her2d_slide_processing_seconds",
            "From a job's start to its result.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.last_success = Gauge(
            "her2d_last_success_timestamp_seconds",
            "When a slide last got a result.",
            registry=self.registry,
        )

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
        jobs = GaugeMetricFamily("her2d_jobs", "Jobs in each state.", labels=["state"])
        for state, number in reading.jobs.items():
            jobs.add_metric([state], number)
        yield jobs
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
