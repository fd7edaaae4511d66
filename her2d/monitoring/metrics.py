"""The metrics that Prometheus scrapes; see https://prometheus.io/docs/practices/naming/ for names.

No label contains a slide's name, and the number of series does not grow with the number of slides.
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

from her2d.monitoring.reading import NodeReading, Reading

_SLIDE_SECONDS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200)
_WAITING_SECONDS = (1, 5, 15, 30, 60, 120, 300, 600, 1800, 3600, 14400, 43200, 86400)
# From a batch on a GPU to full-size networks on a CPU, where a tile waits for minutes.
_BATCH_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_STATUSES = ("positive", "negative", "indeterminate")
_UNFORESEEN_OF = ("slide", "worker", "archive", "pass")
_TILE_CLASSES = ("background", "non_tumor", "weak", "strong", "tumor", "unreadable")


class Batch(Protocol):
    """One batch of a stage, as the pipeline reports it.

    Attributes:
        stage: name of the stage.
        seconds: how long the stage worked on the batch.
        waits_s: how long each tile of the batch had waited for the stage, in seconds.
    """

    @property
    def stage(self) -> str: ...
    @property
    def seconds(self) -> float: ...
    @property
    def waits_s(self) -> tuple[float, ...]: ...


class Metrics:
    """Counters that the daemon advances, and gauges that are read from it at each scrape.

    Attributes:
        registry: all metrics.
        build: versions of the software, the runtime and the bundle.
        results, indeterminate, tiles: results by HER2 status, those without a call by reason, and
            tiles of finished slides by class.
        settling, processing, scan_to_result, steps: durations in seconds.
        clients_dropped: clients of the HTTP server that were disconnected before their response.
        unforeseen: errors that nobody foresaw.
    """

    def __init__(self, reason_codes: Iterable[str] = ()) -> None:
        """Make the metrics, with a series from 0 for each code of a result without a call."""
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.build = Info(
            "her2d_build", "Version of the software, runtime and bundle.", registry=registry
        )
        self.results = Counter(
            "her2d_slide_results",
            "Number of results by HER2 status.",
            ["her2_status"],
            registry=registry,
        )
        self.indeterminate = Counter(
            "her2d_indeterminate_slides",
            "Number of results without a call by the reason's code.",
            ["reason_code"],
            registry=registry,
        )
        self.tiles = Counter(
            "her2d_tiles",
            "Number of tiles of finished slides by tile class.",
            ["tile_class"],
            registry=registry,
        )
        self.settling = Histogram(
            "her2d_slide_settle_seconds",
            "Time from discovering a file to queueing it, in seconds.",
            buckets=_WAITING_SECONDS,
            registry=registry,
        )
        self.processing = Histogram(
            "her2d_slide_processing_seconds",
            "Time from starting a job to its result, in seconds.",
            buckets=_SLIDE_SECONDS,
            registry=registry,
        )
        self.scan_to_result = Histogram(
            "her2d_scan_to_result_seconds",
            "Time from discovering a file to its result, in seconds.",
            buckets=_WAITING_SECONDS,
            registry=registry,
        )
        self.steps = Histogram(
            "her2d_slide_step_seconds",
            "Duration of each step of a finished slide (hash, tiles, pictures), in seconds. Hash"
            " and tiles mostly overlap.",
            ["step"],
            buckets=_SLIDE_SECONDS,
            registry=registry,
        )
        self.clients_dropped = Counter(
            "her2d_http_clients_dropped",
            "Number of HTTP clients that were disconnected because they were too slow or too many.",
            registry=registry,
        )
        self.unforeseen = Counter(
            "her2d_unforeseen_errors",
            "Number of errors that nobody foresaw, by the work they ended; see the log.",
            ["of"],
            registry=registry,
        )
        # rate() and increase() miss the first event of a series that does not start at 0.
        for status in _STATUSES:
            self.results.labels(status)
        for reason_code in reason_codes:
            self.indeterminate.labels(reason_code)
        for tile_class in _TILE_CLASSES:
            self.tiles.labels(tile_class)
        for of in _UNFORESEEN_OF:
            self.unforeseen.labels(of)
        self._batches = Histogram(
            "her2d_stage_batch_seconds",
            "Time that a stage worked on one batch, in seconds.",
            ["stage"],
            buckets=_BATCH_SECONDS,
            registry=registry,
        )
        self._waits = Histogram(
            "her2d_stage_wait_seconds",
            "Time that one tile waited for a stage, in seconds.",
            ["stage"],
            buckets=_BATCH_SECONDS,
            registry=registry,
        )

    def observe_batch(self, batch: Batch) -> None:
        """Record one batch of a stage; called from the stage's thread."""
        self._batches.labels(batch.stage).observe(batch.seconds)
        waits = self._waits.labels(batch.stage)
        for wait in batch.waits_s:
            waits.observe(wait)

    def read_from(self, reading: Callable[[], Reading]) -> None:
        """Call `reading` at every scrape, in the thread that serves it."""
        self.registry.register(_Readings(reading))


class _Readings(Collector):
    def __init__(self, reading: Callable[[], Reading]) -> None:
        self._reading = reading

    def describe(self) -> Iterable[Metric]:
        return []  # so that registering does not call `reading` before the daemon is ready

    def collect(self) -> Iterable[Metric]:
        reading = self._reading()
        yield from _daemon(reading)
        yield from _jobs(reading)
        yield from _stages(reading)
        yield from _storage(reading)
        yield from _gpus(reading)
        yield from _day(reading)
        yield from _ihc(reading)
        yield from _cluster(reading)


def _jobs(reading: Reading) -> Iterable[Metric]:
    jobs = GaugeMetricFamily("her2d_jobs", "Number of jobs in each state.", labels=["state"])
    for state, number in reading.jobs.items():
        jobs.add_metric([state], number)
    yield jobs
    slides = CounterMetricFamily(
        "her2d_slides",
        "Number of times that a job, or an attempt of it, ended with each outcome.",
        labels=["outcome"],
    )
    for outcome, number in reading.outcomes.items():
        slides.add_metric([outcome], number)
    yield slides
    yield _gauge("her2d_backlog_files", "Number of files without a result.", reading.waiting)
    yield _gauge(
        "her2d_overdue_files",
        "Number of files that could not be opened, or lacked a sidecar, for incomplete_after_s.",
        reading.overdue,
    )
    yield _gauge(
        "her2d_forbidden_files",
        "Number of files in the inboxes that the daemon's user may not read.",
        reading.forbidden,
    )
    yield _gauge(
        "her2d_unresolved_slides",
        "Number of quarantined files that were neither scanned again, retried nor forgotten.",
        reading.unresolved,
    )
    yield _gauge(
        "her2d_unmoved_files",
        "Number of finished files that could not be moved to the archive at the last attempt.",
        reading.unmoved,
    )
    yield _gauge(
        "her2d_oldest_waiting_seconds",
        "Time that the longest waiting complete new scan has waited for its result, in seconds;"
        " 0 if none waits.",
        reading.oldest_waiting_s,
    )
    yield _gauge(
        "her2d_oldest_unfinished_seconds",
        "Time since the first new scan was found that is not complete yet, in seconds, without"
        " overdue ones; 0 if there is none.",
        reading.oldest_unfinished_s,
    )
    yield _gauge(
        "her2d_last_success_timestamp_seconds",
        "Time of the last result, in seconds since 1970.",
        reading.last_success_at,
    )
    yield _gauge(
        "her2d_last_scan_timestamp_seconds",
        "Time when the last file arrived, in seconds since 1970.",
        reading.last_scan_at,
    )
    yield _gauge(
        "her2d_progress_timestamp_seconds",
        "Time when the pipeline last made progress or had no work, in seconds since 1970.",
        reading.progress_at,
    )
    yield _gauge(
        "her2d_webhook_waiting_events",
        "Number of events that the webhook has not delivered yet.",
        reading.webhook_waiting,
    )
    yield _gauge(
        "her2d_webhook_oldest_waiting_seconds",
        "Time that the oldest event has waited for its delivery, in seconds; 0 if none waits.",
        reading.webhook_oldest_s,
    )
    yield _gauge(
        "her2d_intake_paused",
        "1 while no files are queued because the disk is full or does not answer, otherwise 0.",
        reading.intake_paused,
    )
    yield _gauge(
        "her2d_unreachable_inboxes",
        "Number of inboxes that cannot be read or do not answer.",
        reading.unreachable_inboxes,
    )
    yield CounterMetricFamily(
        "her2d_watch_restarts",
        "Number of times that a thread which watches the inboxes died and was replaced.",
        value=reading.watch_restarts,
    )
    yield _gauge(
        "her2d_inbox_sweep_age_seconds",
        "Time since all inboxes were last searched for new files, in seconds.",
        reading.swept_s,
    )
    yield _gauge(
        "her2d_inbox_examined_age_seconds",
        "Time since the known file in the inboxes was last examined for a change for which that is"
        " longest ago, in seconds.",
        reading.examined_s,
    )


def _stages(reading: Reading) -> Iterable[Metric]:
    families = (
        (
            CounterMetricFamily,
            "her2d_stage_tiles",
            "Number of tiles that a stage has processed.",
            "tiles",
        ),
        (
            CounterMetricFamily,
            "her2d_stage_batches",
            "Number of batches that a stage has processed.",
            "batches",
        ),
        (
            CounterMetricFamily,
            "her2d_stage_busy_seconds",
            "Time that a stage has worked, in seconds, without waiting for another.",
            "busy_s",
        ),
        (
            GaugeMetricFamily,
            "her2d_stage_queue_tiles",
            "Number of tiles that wait for a stage.",
            "queue_tiles",
        ),
        (
            GaugeMetricFamily,
            "her2d_stage_queue_capacity_tiles",
            "Number of tiles that can wait for a stage.",
            "queue_capacity",
        ),
    )
    for kind, name, text, field in families:
        family = kind(name, text, labels=["stage"])
        for stage in reading.stages:
            family.add_metric([stage.name], getattr(stage, field))
        yield family
    yield CounterMetricFamily(
        "her2d_decode_tiles", "Number of tiles read from slides.", value=reading.decoded_tiles
    )
    yield CounterMetricFamily(
        "her2d_decode_wait_seconds",
        "Time that slides waited for their next tile to be read, decoded and inspected, in"
        " seconds.",
        value=reading.decode_wait_s,
    )
    bottleneck = GaugeMetricFamily(
        "her2d_bottleneck",
        "1 for what limited the pipeline in the last five minutes, 0 for everything else.",
        labels=["stage"],
    )
    for name, limits in reading.bottleneck.items():
        bottleneck.add_metric([name], limits)
    yield bottleneck
    busy = GaugeMetricFamily(
        "her2d_busy_ratio",
        "Share of the time with slides in the pipeline, in the last five minutes, in which a part"
        " of it worked, 0 to 1.",
        labels=["stage"],
    )
    for name, ratio in reading.busy_ratio.items():
        busy.add_metric([name], ratio)
    yield busy


def _daemon(reading: Reading) -> Iterable[Metric]:
    yield _gauge(
        "her2d_time_seconds",
        "Time of the daemon's clock, in seconds since 1970, which all its timestamps are of.",
        reading.at,
    )
    yield _gauge(
        "her2d_ready",
        "1 while a new scan would get a result, otherwise 0; /readyz says why.",
        reading.ready,
    )
    parts = GaugeMetricFamily(
        "her2d_part_ready", "1 while this part of her2d works, otherwise 0.", labels=["part"]
    )
    for part, ready in reading.parts_ready.items():
        parts.add_metric([part], ready)
    yield parts
    yield _gauge(
        "her2d_unused_plans",
        "Number of compiled plans that were passed over for a slower one or a slower back end.",
        reading.unused_plans,
    )
    yield _gauge(
        "her2d_results_writable",
        "1 while heatmaps can be written and the database can be changed, otherwise 0.",
        reading.results_writable,
    )
    yield _gauge(
        "her2d_readings_age_seconds",
        "Age of the values that come from the database and the disks, in seconds.",
        reading.age_s,
    )
    yield CounterMetricFamily(
        "her2d_log_lines_dropped",
        "Number of log lines that were dropped because nobody read the log.",
        value=reading.log_lines_dropped,
    )


def _storage(reading: Reading) -> Iterable[Metric]:
    yield _gauge(
        "her2d_database_readable",
        "1 while the database can be read, otherwise 0.",
        reading.database_readable,
    )
    yield _gauge(
        "her2d_database_bytes",
        "Size of the database and its write-ahead log, in bytes.",
        reading.database_bytes,
    )
    yield _gauge(
        "her2d_database_log_bytes",
        "Size of the database's write-ahead log, which is cut each minute, in bytes.",
        reading.database_log_bytes,
    )
    yield _gauge(
        "her2d_last_backup_timestamp_seconds",
        "Time of the last backup of the database, in seconds since 1970.",
        reading.last_backup_at,
    )
    yield _gauge(
        "her2d_first_event_timestamp_seconds",
        "Time of the oldest event in the database, in seconds since 1970.",
        reading.first_event_at,
    )
    free = GaugeMetricFamily(
        "her2d_disk_free_bytes", "Free space of the file system, in bytes.", labels=["holds"]
    )
    size = GaugeMetricFamily(
        "her2d_disk_size_bytes", "Size of the file system, in bytes.", labels=["holds"]
    )
    for volume in reading.volumes:
        free.add_metric([volume.holds], volume.free_bytes)
        size.add_metric([volume.holds], volume.size_bytes)
    yield free
    yield size


def _gpus(reading: Reading) -> Iterable[Metric]:
    """Yield the GPUs' metrics, without any series if there is no GPU."""
    used = GaugeMetricFamily(
        "her2d_gpu_memory_used_bytes",
        "GPU memory that all processes use, in bytes.",
        labels=["gpu"],
    )
    size = GaugeMetricFamily(
        "her2d_gpu_memory_size_bytes", "Size of the GPU memory, in bytes.", labels=["gpu"]
    )
    busy = GaugeMetricFamily(
        "her2d_gpu_busy_ratio",
        "Share of the driver's last sampling period in which a kernel ran, 0 to 1.",
        labels=["gpu"],
    )
    for gpu in reading.gpus:
        used.add_metric([str(gpu.number)], gpu.memory_used_bytes)
        size.add_metric([str(gpu.number)], gpu.memory_size_bytes)
        if gpu.busy_ratio is not None:
            busy.add_metric([str(gpu.number)], gpu.busy_ratio)
    yield from (used, size, busy)


def _day(reading: Reading) -> Iterable[Metric]:
    """Yield statistics of the results of the last 24 hours, in which drift shows first."""
    day = reading.day
    yield _gauge("her2d_day_results", "Number of results of the last 24 hours.", day.results)
    yield _gauge(
        "her2d_day_positive_ratio",
        "Share of positive results of the last 24 hours, 0 to 1.",
        day.positive_ratio,
    )
    yield _gauge(
        "her2d_day_send_to_ihc_ratio",
        "Share of the last 24 hours' results that the calibration sends to IHC, 0 to 1.",
        day.send_to_ihc_ratio,
    )
    yield _gauge(
        "her2d_day_tumor_tile_ratio",
        "Tumour tiles divided by tissue tiles of the last 24 hours, 0 to 1.",
        day.tumor_tile_ratio,
    )
    p = GaugeMetricFamily(
        "her2d_day_high_expression_ratio",
        "Quartiles of P (equation 1) of the last 24 hours, 0 to 1.",
        labels=["quantile"],
    )
    for quantile, value in day.high_expression.items():
        p.add_metric([f"{quantile:g}"], value)
    yield p
    yield _gauge(
        "her2d_day_stain_results",
        "Number of results of the last 24 hours that have a distance of the stain.",
        day.stain_results,
    )
    yield _gauge(
        "her2d_day_saturation_results",
        "Number of results of the last 24 hours that have a distance of the saturation.",
        day.saturation_results,
    )
    yield _gauge(
        "her2d_day_stain_distance",
        "Median distance of the stain from the bundle's reference, in standard deviations.",
        day.stain_distance,
    )
    yield _gauge(
        "her2d_day_saturation",
        "Median of the slides' mean HSV saturation of tissue, 0 to 255.",
        day.saturation,
    )
    yield _gauge(
        "her2d_day_saturation_distance",
        "Median distance of the saturation from the bundle's reference, in standard deviations.",
        day.saturation_distance,
    )
    flagged = GaugeMetricFamily(
        "her2d_day_flagged_ratio",
        "Share of the last 24 hours' slides with each quality flag, 0 to 1.",
        labels=["flag"],
    )
    for flag, share in day.flagged_ratio.items():
        flagged.add_metric([flag], share)
    yield flagged


def _ihc(reading: Reading) -> Iterable[Metric]:
    """Yield how the bundle's calls agree with IHC and FISH, over the newest outcomes."""
    outcomes = GaugeMetricFamily(
        "her2d_ihc_outcomes",
        "Number of slides by their HER2 status by IHC and FISH.",
        labels=["her2"],
    )
    for outcome, number in reading.ihc.outcomes.items():
        outcomes.add_metric([outcome], number)
    yield outcomes
    slides = GaugeMetricFamily(
        "her2d_ihc_predictive_value_slides",
        "Number of slides of the newest 500 outcomes by their call, without equivocal ones.",
        labels=["call"],
    )
    for value in reading.ihc.predictive_values:
        slides.add_metric([value.call], value.slides)
    yield slides
    for name, text, bound in (
        (
            "her2d_ihc_predictive_value_ratio",
            "Share of these calls that IHC and FISH confirm, 0 to 1: PPV and NPV.",
            "value",
        ),
        (
            "her2d_ihc_predictive_value_low_ratio",
            "Lower end of the 95 % Wilson interval of that share, 0 to 1.",
            "low",
        ),
        (
            "her2d_ihc_predictive_value_high_ratio",
            "Upper end of the 95 % Wilson interval of that share, 0 to 1.",
            "high",
        ),
    ):
        family = GaugeMetricFamily(name, text, labels=["call"])
        for value in reading.ihc.predictive_values:
            if (number := getattr(value, bound)) is not None:
                family.add_metric([value.call], number)
        yield family
    yield from _drift(reading)


def _drift(reading: Reading) -> Iterable[Metric]:
    for name, text, field in (
        (
            "her2d_ihc_drift_ratio",
            "Bias of the calls, or of P, on the newest 500 outcomes minus that at the calibration,"
            " -1 to 1.",
            "value",
        ),
        (
            "her2d_ihc_drift_standard_error_ratio",
            "Standard error of that drift, 0 to 1.",
            "standard_error",
        ),
        (
            "her2d_ihc_drift_slides",
            "Number of slides that the drift is measured on.",
            "slides",
        ),
    ):
        family = GaugeMetricFamily(name, text, labels=["of"])
        for drift in reading.ihc.drifts:
            family.add_metric([drift.of], getattr(drift, field))
        yield family


def _cluster(reading: Reading) -> Iterable[Metric]:
    """Yield the cluster's metrics, without any series if there is no cluster."""
    cluster = reading.cluster
    yield _gauge(
        "her2d_cluster_connected",
        "1 while the cluster answers, otherwise 0.",
        None if cluster is None else cluster.is_connected,
    )
    nodes = GaugeMetricFamily(
        "her2d_cluster_nodes", "Number of living nodes of the cluster.", labels=["state"]
    )
    losses = CounterMetricFamily(
        "her2d_cluster_lost_attempts",
        "Number of attempts that failed because the node, its process or the result was lost, its"
        " engine failed for every slide, or the file was not found or could not be read there.",
        labels=["lost"],
    )
    if cluster is not None:
        for state, number in cluster.nodes.items():
            nodes.add_metric([state], number)
        for lost, number in cluster.losses.items():
            losses.add_metric([lost], number)
    yield from (nodes, losses)
    engines = GaugeMetricFamily(
        "her2d_cluster_engines",
        "Number of engines that the waiting slides need, that score, that are being started, and"
        " for which Ray was asked to start a node.",
        labels=["state"],
    )
    if cluster is not None:
        for state, number in cluster.engines.items():
            engines.add_metric([state], number)
    yield engines
    yield from _cluster_nodes(() if cluster is None else cluster.each_node)
    yield _gauge(
        "her2d_cluster_places_slides",
        "Number of slides that the cluster's nodes score at once.",
        None if cluster is None else cluster.places,
    )
    disconnections = CounterMetricFamily(
        "her2d_cluster_disconnections", "Number of times that the connected cluster was lost."
    )
    sent = CounterMetricFamily(
        "her2d_cluster_sent_bytes", "Bytes of slides that were sent to nodes that lacked them."
    )
    if cluster is not None:
        disconnections.add_metric([], cluster.disconnections)
        sent.add_metric([], cluster.sent_bytes)
    yield from (disconnections, sent)


def _cluster_nodes(nodes: Iterable[NodeReading]) -> Iterable[Metric]:
    """Yield a series for each living node; their number is bounded."""
    families = (
        (
            GaugeMetricFamily,
            "her2d_cluster_node_engines",
            "Number of engines that score on a node.",
            "engines",
        ),
        (
            GaugeMetricFamily,
            "her2d_cluster_node_slides",
            "Number of slides that are being scored on a node.",
            "slides",
        ),
        (
            CounterMetricFamily,
            "her2d_cluster_node_scored_slides",
            "Number of slides that a node has scored.",
            "scored",
        ),
        (
            CounterMetricFamily,
            "her2d_cluster_node_lost_attempts",
            "Number of attempts that failed because of a node, while the node lived.",
            "lost",
        ),
        (
            CounterMetricFamily,
            "her2d_cluster_node_busy_seconds",
            "Time that the busiest stage of a node's engines has worked, in seconds, added up.",
            "busy_s",
        ),
    )
    for kind, name, text, field in families:
        family = kind(name, text, labels=["node"])
        for node in nodes:
            family.add_metric([node.name], getattr(node, field))
        yield family


def _gauge(name: str, text: str, value: float | None) -> GaugeMetricFamily:
    """Return a gauge with one series, or without any if `value` is None."""
    family = GaugeMetricFamily(name, text)
    if value is not None:
        family.add_metric([], value)
    return family
