"""The values of the daemon that a scrape of /metrics reports."""

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
    """The file system of one of the daemon's folders.

    Attributes:
        holds: the folder, one of `database`, `heatmaps`, `inbox`, `inbox_2`...
        free_bytes: space that can be written.
        size_bytes: size of the file system.
    """

    holds: str
    free_bytes: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class DayReading:
    """The current results of the last 24 hours; a value is None if no result has it.

    Attributes:
        results: number of results.
        positive_ratio: positive results divided by all results.
        send_to_ihc_ratio: results that are sent to IHC divided by those that were scored with a
            calibration.
        tumor_tile_ratio: tumour tiles divided by tissue tiles.
        high_expression: quantile -> P of equation 1 as a fraction, over the slides that have one.
        stain_results, saturation_results: number of results that have a distance of the stain,
            and of the saturation.
        stain_distance: median distance of a slide's stain from the bundle's reference, in
            standard deviations of the reference.
        saturation: median of the slides' mean tissue saturation, 0 to 255.
        saturation_distance: median distance of that saturation from the bundle's reference, in
            standard deviations of the reference.
        flagged_ratio: quality flag -> slides with that flag divided by all slides.
    """

    results: int | None = None
    stain_results: int | None = None
    saturation_results: int | None = None
    positive_ratio: float | None = None
    send_to_ihc_ratio: float | None = None
    tumor_tile_ratio: float | None = None
    high_expression: Mapping[float, float] = field(default_factory=dict)
    stain_distance: float | None = None
    saturation: float | None = None
    saturation_distance: float | None = None
    flagged_ratio: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PredictiveValue:
    """How often IHC and FISH confirm a call, over the newest slides with an outcome.

    Attributes:
        call: `positive` or `negative`.
        slides: number of slides called so, whose outcome is not equivocal.
        value, low, high: share of them that IHC and FISH confirm, with its 95 % interval; None
            without slides.
    """

    call: str
    slides: int
    value: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class DriftReading:
    """How far a bias has moved from that at the calibration, over the same slides.

    Attributes:
        of: `calls` (share called positive minus share positive) or `share` (P minus share by IHC).
        slides: number of slides that it is measured on.
        value, standard_error: as a share.
    """

    of: str
    slides: int
    value: float
    standard_error: float


@dataclass(frozen=True, slots=True)
class IhcReading:
    """What IHC and FISH say.

    Attributes:
        outcomes: `positive`, `negative`, `equivocal` -> number of slides.
        predictive_values: of positive and of negative calls.
        drifts: those that can be measured.
    """

    outcomes: Mapping[str, int] = field(default_factory=dict)
    predictive_values: tuple[PredictiveValue, ...] = ()
    drifts: tuple[DriftReading, ...] = ()


@dataclass(frozen=True, slots=True)
class NodeReading:
    """One node of the cluster, or together all that are counted as `other`.

    Attributes:
        name: its host's, or `other`.
        engines: number of engines that score.
        slides: number of slides that are being scored.
        scored, lost: attempts that had a result, and that ended because of the node or a process.
        busy_s: seconds that its engines' busiest stages have worked, added up.
    """

    name: str
    engines: int = 0
    slides: int = 0
    scored: int = 0
    lost: int = 0
    busy_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ClusterReading:
    """The machines that score slides besides the daemon's own.

    Attributes:
        is_connected: whether the cluster answers.
        nodes: `usable`, `starting`, `idle`, `refused` -> number of nodes.
        each_node: the living nodes.
        engines: `wanted`, `usable`, `starting`, `requested` -> number of engines.
        places: number of slides that they take at once.
        losses: `node`, `process`, `result`, `file` -> attempts that failed because it was lost or
            missing.
        disconnections: how often the connected cluster was lost since the start.
        sent_bytes: of slides that were sent to nodes that lacked them.
    """

    is_connected: bool = False
    nodes: Mapping[str, int] = field(default_factory=dict)
    each_node: tuple[NodeReading, ...] = ()
    engines: Mapping[str, int] = field(default_factory=dict)
    places: int = 0
    losses: Mapping[str, int] = field(default_factory=dict)
    disconnections: int = 0
    sent_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Reading:
    """The daemon at one moment; times are seconds since 1970.

    Attributes:
        at: when the values in memory were read, by the clock that all other times are of.
        age_s: how long ago the values were read that do not come from memory.
        ready: whether a new scan would get a result.
        parts_ready: part of the daemon -> whether it works.
        results_writable: whether a result could be recorded.
        log_lines_dropped: log lines that nobody read in time since the start.
        database_readable: if False, the values that come from the database are None or empty.
        jobs: state -> number of jobs.
        outcomes: `done`, `failed`, ... -> how often jobs ended so since the start.
        stages: the stages of the pipeline.
        decoded_tiles: tiles read from slides since the start.
        decode_wait_s: seconds that slides waited for those tiles.
        bottleneck: what can limit the pipeline -> whether it did in the last five minutes.
        busy_ratio: what can limit the pipeline -> share of these five minutes' time with slides in
            the pipeline in which it worked.
        waiting: files without a result.
        overdue: files that could not be opened, or lacked their sidecar, for too long.
        forbidden: files that the daemon's user may not read.
        unmoved: finished files that could not be moved at the last attempt.
        unresolved: quarantined files that no newer scan has replaced, and nobody has forgotten.
        oldest_waiting_s: how long the new scan has waited for its result that was complete first;
            0 if none waits.
        oldest_unfinished_s: how long the new scan has been waited for that was found first and is
            not complete, without overdue ones; 0 if none is waited for.
        last_scan_at: when a file last arrived.
        last_success_at: when a slide last got a result.
        last_backup_at: when the database was last backed up.
        first_event_at: when the oldest event happened that the database holds.
        webhook_waiting: events that have not been delivered; None without a webhook.
        webhook_oldest_s: how long the oldest of them has waited; 0 if none waits.
        progress_at: when the pipeline last made progress or had no work.
        intake_paused: whether intake waits for disk space.
        unreachable_inboxes: inboxes that cannot be read or do not answer.
        watch_restarts: how often the watches of the inboxes were made again since the start,
            because one of their threads had died.
        swept_s: how long ago all inboxes were last searched for new files; None before that.
        examined_s: how long ago the known file was looked at for a change for which that is longest
            ago; None before the first search.
        unused_plans: compiled plans that were passed over for a slower one or a slower back end.
        database_bytes: size of the database and its write-ahead log.
        database_log_bytes: size of the write-ahead log.
        volumes: the file systems of the daemon's folders.
        gpus: the GPUs.
        day: the results of the last 24 hours.
        ihc: outcomes by IHC and FISH beside the bundle's calls.
        cluster: the other machines; None without `[cluster] address`.
    """

    at: float | None = None
    age_s: float = 0.0
    ready: bool = True
    parts_ready: Mapping[str, bool] = field(default_factory=dict)
    results_writable: bool = True
    log_lines_dropped: int = 0
    database_readable: bool = True
    jobs: Mapping[str, int] = field(default_factory=dict)
    outcomes: Mapping[str, int] = field(default_factory=dict)
    stages: tuple[StageReading, ...] = ()
    decoded_tiles: int = 0
    decode_wait_s: float = 0.0
    bottleneck: Mapping[str, bool] = field(default_factory=dict)
    busy_ratio: Mapping[str, float] = field(default_factory=dict)
    waiting: int | None = None
    overdue: int | None = None
    forbidden: int = 0
    unresolved: int | None = None
    unmoved: int = 0
    oldest_waiting_s: float | None = None
    oldest_unfinished_s: float | None = None
    last_scan_at: float | None = None
    last_success_at: float | None = None
    last_backup_at: float | None = None
    first_event_at: float | None = None
    webhook_waiting: int | None = None
    webhook_oldest_s: float | None = None
    progress_at: float | None = None
    intake_paused: bool = False
    unreachable_inboxes: int = 0
    watch_restarts: int = 0
    swept_s: float | None = None
    examined_s: float | None = None
    unused_plans: int = 0
    database_bytes: int | None = None
    database_log_bytes: int | None = None
    volumes: tuple[VolumeReading, ...] = ()
    gpus: tuple[GpuReading, ...] = ()
    day: DayReading = DayReading()
    ihc: IhcReading = IhcReading()
    cluster: ClusterReading | None = None
