"""Score slides on the nodes of a cluster, in place of this process's own pipeline."""

import math
import os
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import get_args

from her2d.bundle.loading import Bundle
from her2d.cluster.connection import ClusterConnection
from her2d.cluster.errors import SameFileUnsureError
from her2d.cluster.paths import inbox_on_nodes, path_on_nodes
from her2d.cluster.plan import (
    DriverOrder,
    Failure,
    NodePlan,
    NodeResult,
    NodeState,
    Part,
    Progress,
    SlideTask,
)
from her2d.cluster.scaling import ScalingRules
from her2d.inference.engine import EngineError
from her2d.inference.options import recorded_name
from her2d.inference.plans import PlanFiles
from her2d.method import MethodName
from her2d.monitoring.reading import ClusterReading
from her2d.pipeline.outcome import SlideOutcome
from her2d.pipeline.pipeline import Pipeline
from her2d.pipeline.slide_run import Progress as OnProgress
from her2d.pipeline.slide_run import SlideCancelledError
from her2d.pipeline.software import Software, library_versions, software_of
from her2d.processing.engine_health import EngineDownError
from her2d.processing.errors import (
    ActorCrashedError,
    ClusterLostError,
    FileChangedError,
    ResultLostError,
    ScanNotOnNodeError,
    UnreadableOnNodeError,
)
from her2d.processing.hashing import IdleHashing
from her2d.processing.identity import Scan
from her2d.processing.processor import AssumeMagnification, ScoredSlide
from her2d.processing.second_reader import second_reader
from her2d.settings import Settings
from her2d.system.extras import installing, missing_modules
from her2d.system.file_identity import FileHash
from her2d.system.loggers import get_logger

log = get_logger(__name__)

_POLL_S = 0.5
# A hanging node is given up before the daemon counts as hanging, and is restarted.
_SILENT_PART = 0.7
# Smaller than a heatmap, so that Ray's object store is not filled by it.
_PART_BYTES = 2**20

LOSSES: Mapping[type[Exception], str] = {
    ClusterLostError: "node",
    ActorCrashedError: "process",
    EngineDownError: "engine",
    ResultLostError: "result",
    ScanNotOnNodeError: "file",
    UnreadableOnNodeError: "file",
}
"""What was lost or missing when an attempt failed because of the cluster."""


class ClusterProcessor:
    """Scores each slide on a node. Safe to use from several threads.

    Attributes:
        bundle, software: what every node has.
        pipeline, unused_plans: none; the nodes have theirs.
    """

    pipeline: Pipeline | None = None
    unused_plans: tuple[PlanFiles, ...] = ()

    def __init__(
        self,
        bundle: Bundle,
        software: Software,
        connection: ClusterConnection,
        hashing: IdleHashing,
        *,
        most_slides: int,
        paths: Mapping[Path, Path],
        assume_magnification: AssumeMagnification,
        sends_files: bool = True,
        stalled_after_s: Callable[[], float] = lambda: math.inf,
    ) -> None:
        self.bundle = bundle
        self.software = software
        self.connection = connection
        self._hashing = hashing
        self._most_slides = most_slides
        self._paths = paths
        self._assume_magnification = assume_magnification
        self._sends_files = sends_files
        self._stalled_after_s = stalled_after_s  # a reload changes it
        self._lock = threading.Lock()
        self._sent_bytes = 0
        self._losses = Counter(dict.fromkeys(LOSSES.values(), 0))

    @property
    def capacity(self) -> int:
        """Number of slides that the nodes take at once now."""
        return min(self._most_slides, self.connection.status.places)

    @property
    def nodes(self) -> frozenset[str]:
        """Names of the nodes that score now."""
        return frozenset(node.name for node in self.connection.status.nodes if node.actors)

    @property
    def losses(self) -> Mapping[str, int]:
        """What was lost, such as `node` -> number of attempts that failed for it."""
        with self._lock:
            return dict(self._losses)

    def reading(self) -> ClusterReading:
        """Return what a scrape of /metrics reports."""
        status = self.connection.status
        states = Counter(dict.fromkeys(get_args(NodeState), 0))
        states.update(node.state for node in status.nodes)
        return ClusterReading(
            self.connection.is_connected,
            states,
            self.connection.nodes,
            {
                "wanted": status.wanted,
                "usable": sum(node.actors for node in status.nodes),
                "starting": status.starting,
                "requested": status.requested,
            },
            status.places,
            self.losses,
            self.connection.losses,
            self._sent_bytes,
        )

    def note_backlog(self, slides: int) -> None:
        """Say how many slides are due or scored; `capacity` follows."""
        self.connection.note_backlog(slides)

    def content_hash(self, scan: Scan, on_progress: Callable[[], None] = lambda: None) -> str:
        """Return the scan's content hash, read on this machine; see `SlideProcessor`."""
        return self._hashing.content_hash(scan, on_progress)

    def score(
        self,
        scan: Scan,
        *,
        inbox: Path | None = None,
        cancel: threading.Event | None = None,
        progress: OnProgress | None = None,
        content_hash: str | None = None,
        unreadable_on: Collection[str] = (),
    ) -> ScoredSlide:
        """Score one scan on a node; arguments as in `Processor.score`.

        A node that could not read the file gets it only where no other is used, and then it is sent
        there if it can be.

        Raises:
            ClusterLostError: the node or the cluster was lost.
            ActorCrashedError: the node's process ended, or made no progress for too long.
            ResultLostError: the node has no room for the result.
            ScanNotOnNodeError: the node cannot open the file, or it is another one there.
            UnreadableOnNodeError: the node has opened the file and cannot read it.
            UnreadableHereError: this machine cannot read the file either, which is to be sent.
            Exception: what `SlideProcessor.score` raises.
        """
        if content_hash is None:
            return self.hash_and_score(
                scan,
                lambda _: None,
                inbox=inbox,
                cancel=cancel,
                progress=progress,
                unreadable_on=unreadable_on,
            )[1]
        return self._scored(scan, _Digest(content_hash), inbox, cancel, progress, unreadable_on)

    def hash_and_score(
        self,
        scan: Scan,
        hashed: Callable[[str], None],
        *,
        on_hash_progress: Callable[[], None] = lambda: None,
        inbox: Path | None = None,
        cancel: threading.Event | None = None,
        progress: OnProgress | None = None,
        unreadable_on: Collection[str] = (),
    ) -> tuple[str, ScoredSlide]:
        """Score one scan on a node, which hashes the file beside its tiles.

        Arguments as in `SlideProcessor.hash_and_score`. This machine reads the file only if a node
        lacks it, while it is sent, or if the node's may be another one.

        Raises:
            Exception: as `score`, and what `hashed` raises.
        """
        digest = _Digest(None, hashed)
        try:
            scored = self._scored(scan, digest, inbox, cancel, progress, unreadable_on)
        except SameFileUnsureError:
            with second_reader(scan, unreadable_on):
                whole = self.content_hash(scan, on_hash_progress)
            digest.found(whole)
            scored = self._scored(scan, digest, inbox, cancel, progress, unreadable_on)
        assert digest.value is not None
        return digest.value, scored

    def _scored(
        self,
        scan: Scan,
        digest: "_Digest",
        inbox: Path | None,
        cancel: threading.Event | None,
        progress: OnProgress | None,
        unreadable_on: Collection[str],
    ) -> ScoredSlide:
        with second_reader(scan, unreadable_on):
            first_block = scan.first_block()
        task = SlideTask(
            uuid.uuid4().hex,
            path_on_nodes(scan.path, self._paths),
            scan.inbox and inbox_on_nodes(scan.path, scan.inbox, self._paths),
            scan.state.size,
            scan.state.mtime_ns,
            first_block,
            self._assume_magnification(scan.path, inbox),
            digest.value,
            can_be_sent=self._sends_files and scan.descriptor is not None,
            unreadable_on=frozenset(unreadable_on),
        )
        began, cancel = time.monotonic(), cancel or threading.Event()
        try:
            outcome = self._outcome(task, scan, digest, cancel, progress)
        except tuple(LOSSES) as error:
            if isinstance(error, ClusterLostError) and cancel.is_set():
                raise SlideCancelledError("The slide was cancelled.") from error
            if isinstance(error, ScanNotOnNodeError | UnreadableOnNodeError):
                scan.require_unchanged()  # else the node is right
            with self._lock:
                self._losses[LOSSES[type(error)]] += 1
            if isinstance(error, UnreadableOnNodeError) and task.content_hash is not None:
                raise error.though_readable_here() from error
            raise
        seconds = time.monotonic() - began
        stamp = scan.stamp()
        scan.require_unchanged()
        return ScoredSlide(scan.path, outcome, stamp, first_block, seconds)

    def _outcome(
        self,
        task: SlideTask,
        scan: Scan,
        digest: "_Digest",
        cancel: threading.Event,
        progress: OnProgress | None,
    ) -> SlideOutcome:
        while not self.connection.begin(task):
            if progress is not None:
                progress(0, 0)
            if cancel.wait(_POLL_S):
                raise SlideCancelledError("The slide was cancelled.")
        last, is_sent = Progress(), False
        heard_at = time.monotonic()
        while True:
            found = self.connection.next(task, _POLL_S)
            if isinstance(found, NodeResult):
                digest.found(found.content_hash)
                return found.outcome
            if isinstance(found, Failure):
                raise found.to_raise()
            if found is not None and found != last:
                last = found
                if progress is not None:
                    progress(found.done, found.total)
                if found.wants_file and not is_sent:
                    is_sent = True
                    with self._cancelling(task):
                        self._send(task, scan, digest, cancel, progress)
                if found.content_hash is not None:
                    with self._cancelling(task):
                        digest.found(found.content_hash)
                # Sending the file and storing its hash may have taken long, and not by the node.
                heard_at = time.monotonic()
            self._give_up_if_hanging(task, heard_at)
            if cancel.is_set():
                self.connection.cancel(task)
                raise SlideCancelledError("The slide was cancelled.")

    @contextmanager
    def _cancelling(self, task: SlideTask) -> Iterator[None]:
        """End the slide on its node if the block raises anything that is not the node's end."""
        try:
            yield
        except (ClusterLostError, ActorCrashedError):
            raise
        except Exception:
            self.connection.cancel(task)
            raise

    def _give_up_if_hanging(self, task: SlideTask, heard_at: float) -> None:
        silent_s = time.monotonic() - heard_at
        if silent_s > _SILENT_PART * self._stalled_after_s():
            raise self.connection.give_up(task, silent_s)

    def _send(
        self,
        task: SlideTask,
        scan: Scan,
        digest: "_Digest",
        cancel: threading.Event,
        progress: OnProgress | None,
    ) -> None:
        """Send a slide's file to the node that lacks it, until all is sent or the slide has ended.

        It is hashed on its way; its node checks that what arrived has this hash.

        Raises:
            ActorCrashedError: the node took no part for too long.
            FileChangedError: the file has changed.
            UnreadableHereError: it cannot be read, as on a node before.
            OSError: it cannot be read.
        """
        began = time.monotonic()
        for part in _parts(scan, task.unreadable_on):
            if part.content_hash is not None and digest.value not in (None, part.content_hash):
                raise FileChangedError(f"{scan.path.name} changed while it was read.")
            if not self._send_part(task, part, cancel):
                return
            with self._lock:
                self._sent_bytes += len(part.data)
            if progress is not None:
                progress(0, 0)
            if part.content_hash is not None:
                digest.found(part.content_hash)
        log.info(
            "slide_sent_to_node",
            mb=round(scan.state.size / 10**6),
            seconds=round(time.monotonic() - began, 1),
        )

    def _send_part(self, task: SlideTask, part: Part, cancel: threading.Event) -> bool:
        """Send a part, however slow the network is; False if the slide has ended or is to end."""
        is_sent: bool | None = None
        began = time.monotonic()
        while is_sent is None:
            self._give_up_if_hanging(task, began)
            if cancel.is_set():
                return False
            is_sent = self.connection.send(task, part)
        return is_sent


class _Digest:
    """A slide's content hash, as the first that read all of the file has found it.

    Args:
        value: the hash, if it is known.
        hashed: called with it once it is found.
    """

    def __init__(
        self, value: str | None = None, hashed: Callable[[str], None] = lambda _: None
    ) -> None:
        self.value = value
        self._hashed = hashed

    def found(self, digest: str) -> None:
        """Note what a reader of the file has found. Raises ScanNotOnNodeError if it differs."""
        if self.value is None:
            self.value = digest
            self._hashed(digest)
        elif self.value != digest:
            raise ScanNotOnNodeError("A node has scored other content than the daemon has read.")


def _parts(scan: Scan, unreadable_on: Collection[str]) -> Iterator[Part]:
    """Read an open file in parts, the last of which has its content hash.

    Raises:
        FileChangedError: it has become shorter.
        UnreadableHereError: it cannot be read, as on a machine of `unreadable_on`.
        OSError: it cannot be read.
    """
    assert scan.descriptor is not None
    hashing, size = FileHash(), scan.state.size
    for offset in range(0, size, _PART_BYTES):
        with second_reader(scan, unreadable_on):
            data = os.pread(scan.descriptor, min(_PART_BYTES, size - offset), offset)
        if not data:
            raise FileChangedError(f"{scan.path.name} changed while it was read.")
        hashing.update(data)
        is_last = offset + len(data) >= size
        yield Part(offset, data, hashing.value if is_last else None)


@contextmanager
def open_cluster_processor(
    bundle: Bundle,
    settings: Callable[[], Settings],
    cancel: threading.Event | None = None,
) -> Iterator[ClusterProcessor]:
    """Connect to the cluster, which may take its time; the processor's capacity is 0 until then.

    Args:
        bundle: what scores.
        settings: returns those of the daemon, which a reload may have changed.
        cancel: set when a stop cancels the slides; a silent cluster is then not waited for.

    Raises:
        EngineError: the settings do not say what nodes compute with, or a package is missing.
    """
    at_start = settings()
    wanted = at_start.cluster
    order = _order(bundle, at_start)
    with (
        IdleHashing(wanted.most_slides) as hashing,
        ClusterConnection(order, cancel=cancel) as connection,
    ):
        yield ClusterProcessor(
            bundle,
            order.plan.software,
            connection,
            hashing,
            most_slides=wanted.most_slides,
            paths=wanted.paths,
            assume_magnification=at_start.intake.magnification_for,
            sends_files=wanted.spool_mb > 0,
            stalled_after_s=lambda: settings().intake.stalled_after_s,
        )


def check_order(bundle: Bundle, settings: Settings) -> DriverOrder:
    """Return an order for one actor a node that leaves the CPUs to the daemon's, to look at them.

    Raises:
        EngineError: as `open_cluster_processor`.
    """
    everywhere = ScalingRules(sys.maxsize, sys.maxsize, 1, 1.0)
    order = _order(bundle, settings)
    return replace(order, cpus_taken=0, most_actors=1, scaling=everywhere, connect_s=60.0)


def _order(bundle: Bundle, settings: Settings) -> DriverOrder:
    wanted = settings.cluster
    if bundle.manifest.method is MethodName.MIL:
        raise EngineError(
            f"The bundle {bundle.directory} calls slides by attention (mil), which a cluster does"
            " not run. Remove [cluster] address to score on this machine."
        )
    if missing := missing_modules("cluster"):
        raise EngineError(
            f"[cluster] address needs {', '.join(missing)}, which is not installed. Install it:"
            f" {installing('cluster')}."
        )
    software = expected_software(settings)
    signed = bundle.calibration
    calibration = settings.bundle.calibration
    plan = NodePlan(
        path_on_nodes(bundle.directory, wanted.paths),
        None if calibration is None else path_on_nodes(calibration, wanted.paths),
        bundle.digest,
        None if signed is None else signed.digest,
        software,
        library_versions(),
        settings.inference,
        settings.pipeline,
        wanted.actor_cpus,
        wanted.actor_gpus,
        wanted.spool,
        wanted.spool_mb,
    )
    return DriverOrder(
        wanted.address,
        plan,
        bundle,
        wanted.actor_cpus,
        wanted.most_slides,
        ScalingRules.of(settings),
    )


def expected_software(settings: Settings) -> Software:
    """Return what every node must compute with, so that a slide's result is the same on each.

    Raises:
        EngineError: the settings leave it open, or the library is not installed here.
    """
    backend, precision = settings.inference.backend, settings.inference.precision
    if backend == "auto":
        raise EngineError(
            "[cluster] address needs [inference] backend: every node must compute with the same"
            " one. Set it, for example to onnxruntime."
        )
    if precision == "auto":
        if backend not in ("onnxruntime", "torch"):
            raise EngineError(
                f"[cluster] address needs [inference] precision with {backend}: every node must"
                " compute in the same one. Set it, for example to fp16."
            )
        precision = "fp32"
    try:
        return software_of(recorded_name(backend, precision))
    except ImportError as error:
        raise EngineError(
            f"{backend} is not installed here. Every machine of the cluster needs the same"
            f" version. Install it: {installing(None if backend == 'onnxruntime' else backend)}."
        ) from error
