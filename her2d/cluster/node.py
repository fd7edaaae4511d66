"""What runs on a node: one engine that stays loaded, and the slides that it scores.

Ray makes an actor of the class and calls its methods from several threads.
"""

import logging
import pickle
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from itertools import count
from typing import Any

import her2d
from her2d.bundle.loading import load_bundle
from her2d.bundle.site_calibration import with_calibration
from her2d.cluster.errors import NodeError, NodeRefusedError, SameFileUnsureError
from her2d.cluster.node_parity import require_parity
from her2d.cluster.plan import (
    Answer,
    Failure,
    NodePlan,
    NodeReport,
    NodeResult,
    ParityReference,
    Part,
    Progress,
    SlideTask,
)
from her2d.cluster.spool import NoRoomError, ReceivedFile, ReceivedScan, ReceiveError, Spool
from her2d.errors import Her2dError
from her2d.inference.engine import Engine, EngineError
from her2d.inference.self_test import self_test
from her2d.pipeline.slide_run import SlideCancelledError
from her2d.pipeline.software import Software, library_versions
from her2d.processing.errors import ScanNotOnNodeError, UnreadableOnNodeError
from her2d.processing.identity import Scan, open_scan
from her2d.processing.processor import SlideProcessor, open_processor
from her2d.settings import Settings
from her2d.system.io_errors import is_away
from her2d.system.shortage import is_own_shortage

# Seconds without a part of a file after which its sender is gone.
_SILENT_S = 120.0
_DIGEST_LETTERS = 64  # of SHA-256 in hexadecimal
_SAME_TIME_NS = 2 * 10**9  # FAT's steps; mounts of one share may round a time differently


class Vacancy:
    """Takes the CPUs and GPUs of an engine where there are none, so that Ray asks for a node."""

    def ready(self) -> None:
        """Answer once there is such a node."""


class SlideActor:
    """Scores slides on one node with one engine. Safe to use from several threads."""

    def __init__(self, plan: NodePlan, reference: ParityReference) -> None:
        """Open the engine, or keep why the node cannot be used for `report`."""
        # Ray keeps what its processes write in files, where names of slides must not stand.
        logging.getLogger("her2d").propagate = False
        self._plan = plan
        self._resources = ExitStack()
        self._processor: SlideProcessor | None = None
        self._lock = threading.Lock()
        self._progress: dict[str, Progress] = {}
        self._cancel: dict[str, threading.Event] = {}
        self._spool = Spool(plan.spool, int(plan.spool_mb * 10**6))
        self._arriving: dict[str, ReceivedFile] = {}
        self._refusal: str | None = None
        try:
            self._processor = self._open(reference)
        except Her2dError as error:
            self._resources.close()
            self._refusal = str(error)

    def report(self) -> NodeReport:
        """Say whether the node can be used, and how long its engine has worked."""
        processor = self._processor
        if processor is None:
            return NodeReport(self._refusal)
        return NodeReport(None, max(processor.pipeline.times().stages.values()))

    def score(self, task: SlideTask) -> Answer:
        """Score a slide. It never raises: what ended it is in the answer."""
        with self._lock:
            cancel = self._cancel.setdefault(task.id, threading.Event())
            self._progress[task.id] = Progress()
        try:
            return self._score(task, cancel)
        except Exception as error:  # noqa: BLE001  the daemon's retry policy decides
            return _portable(Failure(error, error.__cause__))
        finally:
            with self._lock:
                self._progress.pop(task.id, None)
                self._cancel.pop(task.id, None)

    def progress(self, task_id: str) -> Progress:
        """Return how far a slide is."""
        with self._lock:
            return self._progress.get(task_id, Progress())

    def receive(self, task_id: str, part: Part) -> None:
        """Take a part of a slide's file, unless it is not waited for any longer."""
        with self._lock:
            file = self._arriving.get(task_id)
        if file is not None:
            file.write(part)

    def cancel(self, task_id: str) -> None:
        """End a slide early, if it is being scored."""
        with self._lock:
            event = self._cancel.get(task_id)
        if event is not None:
            event.set()

    def _open(self, reference: ParityReference) -> SlideProcessor:
        plan = self._plan
        _require_same("her2d", plan.software.software_version, her2d.__version__)
        installed = library_versions()
        for library, wanted in plan.libraries.items():
            _require_same(library, wanted, installed.get(library))
        bundle = with_calibration(load_bundle(plan.bundle), plan.calibration)
        _require_same("the bundle", plan.bundle_digest, bundle.digest)
        signed = bundle.calibration
        _require_same(
            "the calibration", plan.calibration_digest, None if signed is None else signed.digest
        )

        def check(engine: Engine) -> None:
            self_test(engine)
            require_parity(bundle, engine, reference, socket.gethostname())

        processor = self._resources.enter_context(
            open_processor(bundle, node_settings(plan), check=check)
        )
        _require_same_software(plan.software, processor.software)
        return processor

    def _score(self, task: SlideTask, cancel: threading.Event) -> NodeResult:
        """Score a slide's file while it is hashed; see `SlideProcessor.hash_and_score`.

        Raises:
            SameFileUnsureError: the daemon has to hash the file first.
            ScanNotOnNodeError: the file is not here, or has other content.
            UnreadableOnNodeError: it is here, and cannot be read.
        """
        if self._processor is None:
            raise EngineError(self._refusal or "The node is not used.")

        steps = count(1)

        def show(**progress: Any) -> None:
            with self._lock:
                # The hash may go on for a moment after a slide that has ended.
                if (known := self._progress.get(task.id)) is not None:
                    self._progress[task.id] = replace(known, **progress)

        def wait(**progress: Any) -> None:
            show(**progress)
            if cancel.is_set():
                raise SlideCancelledError("The slide was cancelled.")

        with ExitStack() as opened:
            scan, wanted = self._opened(task, opened, wait)

            def hashed(digest: str) -> None:
                if wanted not in (None, digest):
                    raise _other_content(task, scan)
                show(content_hash=digest)

            try:
                digest, scored = self._processor.hash_and_score_assuming(
                    scan,
                    task.assume_magnification,
                    hashed,
                    on_hash_progress=lambda: show(hashed_mb=next(steps)),
                    cancel=cancel,
                    progress=lambda done, total: show(done=done, total=total),
                )
            except OSError as error:
                if is_own_shortage(error):
                    raise
                raise _unreadable(task, scan, error) from error
            return NodeResult(digest, scored.outcome)

    def _opened(
        self, task: SlideTask, opened: ExitStack, wait: Callable[..., None]
    ) -> tuple[Scan, str | None]:
        """Open a slide's file, or receive it if it cannot be opened here, or is sent anyway.

        Returns:
            The scan, and the content hash that it must have, if that is known.

        Raises:
            SameFileUnsureError: the daemon has to hash the file first.
            ScanNotOnNodeError: it can be neither opened nor received, or is another file.
            UnreadableOnNodeError: its first block cannot be read.
        """
        if task.is_sent:
            return self._received(task, opened, wait)
        try:
            scan = opened.enter_context(open_scan(task.path, task.inbox))
        except (OSError, Her2dError) as error:
            if not task.can_be_sent:
                raise ScanNotOnNodeError(
                    f"The node {socket.gethostname()} cannot open {task.path.name}: {error}. Mount"
                    " the share there, or correct [cluster] paths."
                ) from error
            return self._received(task, opened, wait)
        _require_same_file(task, scan)
        return scan, task.content_hash

    def _received(
        self, task: SlideTask, opened: ExitStack, wait: Callable[..., None]
    ) -> tuple[Scan, str | None]:
        """Receive a slide's file; see `_opened`. Raises ScanNotOnNodeError."""
        waits = count(1)
        try:
            file = opened.enter_context(
                self._spool.file(task.size, lambda: wait(waited=next(waits)))
            )
            with self._lock:
                self._arriving[task.id] = file
            file.wait(lambda: wait(waited=next(waits), wants_file=True), _SILENT_S)
        except (NoRoomError, ReceiveError) as error:
            raise ScanNotOnNodeError(
                f"The node {socket.gethostname()} lacks {task.path.name} and cannot receive it:"
                f" {str(error).rstrip('.')}. Mount the share there, or make room."
            ) from error
        finally:
            with self._lock:
                self._arriving.pop(task.id, None)
        return file.scan(task.path), file.content_hash or task.content_hash


def _require_same_file(task: SlideTask, scan: Scan) -> None:
    """Check that a file is the daemon's, so far as that shows before all of it was read.

    Two scans of one size may begin with the same glass. Where the daemon has not read all of its
    file, the time of the last change must be the same as well.

    Raises:
        SameFileUnsureError: only that time differs, as that of a copy does.
        ScanNotOnNodeError: it is another file, or is not reached.
        UnreadableOnNodeError: it cannot be read.
    """
    try:
        is_like = (scan.state.size, scan.first_block()) == (task.size, task.first_block)
    except OSError as error:
        raise _unreadable(task, scan, error) from error
    if not is_like:
        raise _other_content(task, scan)
    if task.content_hash is None and abs(scan.state.mtime_ns - task.mtime_ns) > _SAME_TIME_NS:
        raise SameFileUnsureError(
            f"On the node {socket.gethostname()}, {task.path.name} has another time of its last"
            " change than on the daemon's machine."
        )


def node_settings(plan: NodePlan) -> Settings:
    """Return the settings that an actor computes with: the daemon's, on its own CPUs.

    The node's own config.toml and environment count for nothing.
    """
    inference, pipeline = plan.inference, plan.pipeline
    decoders = -(-plan.cpus // pipeline.slides_in_flight)
    return Settings.model_construct(
        inference=inference.model_copy(update={"threads": inference.threads or plan.cpus}),
        pipeline=pipeline.model_copy(
            update={"decode_workers": pipeline.decode_workers or decoders}
        ),
    )


def _unreadable(
    task: SlideTask, scan: Scan, error: OSError
) -> ScanNotOnNodeError | UnreadableOnNodeError:
    """Return what an error of the storage means. What a lost sector gives may be the file's."""
    node, name, detail = socket.gethostname(), task.path.name, error.strerror or str(error)
    if isinstance(scan, ReceivedScan):
        return ScanNotOnNodeError(
            f"The node {node} cannot read what it has received of {name}: {detail}. Check the disk"
            " of [cluster] spool there."
        )
    if is_away(error):
        return ScanNotOnNodeError(
            f"The node {node} does not reach {name}: {detail}. Check the share there."
        )
    return UnreadableOnNodeError(name, node, detail)


def _other_content(task: SlideTask, scan: Scan) -> ScanNotOnNodeError:
    node, name = socket.gethostname(), task.path.name
    if isinstance(scan, ReceivedScan):
        return ScanNotOnNodeError(f"{name} was damaged on its way to the node {node}.")
    return ScanNotOnNodeError(
        f"On the node {node}, {name} has other content than on the daemon's machine. Correct"
        " [cluster] paths."
    )


def _require_same_software(wanted: Software, found: Software) -> None:
    for part, expected, present in (
        ("the back end", wanted.backend, found.backend),
        (wanted.runtime, wanted.runtime_version, found.runtime_version),
        ("scikit-learn", wanted.scikit_learn_version, found.scikit_learn_version),
        ("her2d's commit", wanted.git_commit, found.git_commit),
    ):
        _require_same(part, expected, present)


def _require_same(part: str, wanted: str | None, found: str | None) -> None:
    if wanted != found:
        raise NodeRefusedError(
            f"It has another version of {part}: {_short(found)}, and the daemon has"
            f" {_short(wanted)}. Install the same on both."
        )


def _short(version: str | None) -> str:
    """Return a version, or the beginning of a digest."""
    if version is None:
        return "none"
    return f"{version[:12]}…" if len(version) == _DIGEST_LETTERS else version


def _portable(failure: Failure) -> Failure:
    """Return the failure, or one of the same words if it cannot be sent to another process."""
    try:
        pickle.loads(pickle.dumps(failure))  # noqa: S301  what was made in the line itself
    except Exception:  # noqa: BLE001  a library's error may hold anything
        return Failure(NodeError(f"{type(failure.error).__name__}: {failure.error}"))
    return failure
