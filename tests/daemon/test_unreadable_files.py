"""Files that a node of a cluster cannot read: a broken mount costs no slide, and a bad sector does.

The nodes are played; the file, the queue, the daemon's worker and its side of the cluster are real.
Each attempt is made by a new daemon, so that what is known of the file survives a restart.
"""

import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from waiting import wait_until

from her2d.cluster import connection as connection_module
from her2d.cluster.connection import ClusterConnection
from her2d.cluster.plan import (
    Answer,
    ClusterStatus,
    Failure,
    NodeResult,
    NodeStatus,
    Part,
    Progress,
    SlideTask,
)
from her2d.cluster.processor import ClusterProcessor
from her2d.daemon.shutdown import StopSignals
from her2d.daemon.worker import Worker
from her2d.db.connection import open_existing
from her2d.monitoring.metrics import Metrics
from her2d.pipeline.outcome import SlideOutcome
from her2d.processing.duplicates import ContentLocks
from her2d.processing.errors import ScanNotOnNodeError, UnreadableOnNodeError
from her2d.processing.hashing import IdleHashing
from her2d.processing.identity import open_scan, scan_hash
from her2d.processing.processor import SlideProcessor, open_processor
from her2d.processing.recorder import Recorder
from her2d.processing.retry_policy import MOST_UNFORESEEN
from her2d.queue.claims import ClaimRegistry
from her2d.queue.job import THIS_MACHINE, Job, JobState
from her2d.queue.store import JobQueue
from her2d.settings import (
    InferenceSettings,
    IntakeSettings,
    PipelineSettings,
    ResultsSettings,
    Settings,
)
from her2d.system.file_identity import FileState

MIB = 1 << 20
BAD_SECTOR = 2 * MIB
DETAIL = os.strerror(errno.EIO)


@pytest.fixture(scope="module")
def local(color_bundle) -> Iterator[SlideProcessor]:
    """What the nodes compute with."""
    settings = Settings(
        inference=InferenceSettings(threads=1),
        pipeline=PipelineSettings(segmenter_batch=1, classifier_batch=1, slides_in_flight=1),
    )
    with open_processor(color_bundle, settings) as processor:
        yield processor


@pytest.fixture
def settings(tmp_path) -> Settings:
    (tmp_path / "inbox").mkdir()
    return Settings(
        intake=IntakeSettings(inboxes=(tmp_path / "inbox",)),
        results=ResultsSettings(database=tmp_path / "her2d.sqlite", heatmaps=tmp_path / "heatmaps"),
    )


@pytest.fixture
def slide(write_slide, settings) -> Path:
    """A slide of over three MiB in the inbox."""
    (inbox,) = settings.intake.inboxes
    path = write_slide(["wSw"], "a.tif", folder=inbox)
    with path.open("ab") as file:
        file.write(bytes(3 * MIB))
    return path


class Nodes:
    """Plays the driver process and its nodes; each attempt is handed to one node.

    Attributes:
        broken: the machines that cannot read the file.
        read_by: the nodes that have tried, in order.
    """

    def __init__(self, names: tuple[str, ...], digest: str, outcome: SlideOutcome) -> None:
        self.names, self.broken = names, set[str]()
        self.read_by: list[str] = []
        self.sent = b""
        self._result = NodeResult(digest, outcome)
        self._answers: list[Progress | Answer] = []

    def start(self, _order: object) -> tuple[Any, "Nodes"]:
        return SimpleNamespace(shutdown=lambda: None), self

    def open(self) -> None: ...

    def note_backlog(self, _slides: int) -> None: ...

    def status(self) -> ClusterStatus:
        nodes = tuple(NodeStatus(name, name, "usable", 1) for name in self.names)
        return ClusterStatus(nodes, len(nodes))

    def begin(self, task: SlideTask) -> bool:
        """Choose a node as `Driver.begin` does."""
        others = [name for name in self.names if name not in task.unreadable_on]
        node = (others or self.names)[0]
        self.read_by.append(node)
        if not others and task.can_be_sent:
            self._answers = [Progress(wants_file=True), self._result]
        elif node in self.broken:
            self._answers = [Failure(UnreadableOnNodeError(task.path.name, node, DETAIL))]
        else:
            self._answers = [self._result]
        return True

    def next(self, _task_id: str, _wait_s: float) -> Progress | Answer | None:
        return self._answers.pop(0)

    def send(self, _task_id: str, part: Part) -> bool:
        self.sent += part.data
        return True

    def cancel(self, _task_id: str) -> None: ...


class OneJob(ClaimRegistry):
    """Ends the worker after a job."""

    def __init__(self, signals: StopSignals) -> None:
        super().__init__()
        self._signals = signals

    def release(self, job: Job) -> None:
        super().release(job)
        self._signals.stop_requested.set()


class Site:
    """A daemon's worker with a cluster, and one queued file."""

    def __init__(self, settings: Settings, local: SlideProcessor, nodes: Nodes, storage) -> None:
        self.settings, self._local, self.nodes, self._storage = settings, local, nodes, storage
        self.sends_files = True

    def attempt(self) -> Job:
        """Let a daemon that was just started claim the file once, and return its job."""
        with closing(open_existing(self.settings.results.database)) as db:
            db.execute("update jobs set not_before = null")
        order: Any = SimpleNamespace(address="auto")
        with (
            IdleHashing(1) as hashing,
            ClusterConnection(order, self.nodes.start) as connection,
        ):
            processor = ClusterProcessor(
                self._local.bundle,
                self._local.software,
                connection,
                hashing,
                most_slides=8,
                paths={},
                assume_magnification=lambda _path, _inbox: None,
                sends_files=self.sends_files,
            )
            wait_until(lambda: connection.is_connected)
            self._work(processor)
        return self.job()

    def _work(self, processor: ClusterProcessor) -> None:
        signals = StopSignals()
        worker = Worker(
            lambda: self.settings,
            processor,
            Recorder(processor.bundle, processor.software, self.settings.results.heatmaps),
            ContentLocks(),
            Metrics(),
            signals,
            OneJob(signals),
            self._storage,
        )
        thread = threading.Thread(target=worker.run)
        thread.start()
        thread.join()

    def attempts(self, most: int) -> Job:
        """Attempt the file until it is not tried again, or so often."""
        for _ in range(most):
            if (job := self.attempt()).state is not JobState.FAILED:
                break
        return job

    def job(self) -> Job:
        with closing(open_existing(self.settings.results.database)) as db:
            (job,) = JobQueue(db).in_state()
        return job


@pytest.fixture
def site_with(settings, jobs, storage, local, slide, monkeypatch) -> Callable[..., Site]:
    monkeypatch.setattr(connection_module, "_LOOK_S", 0.01)
    monkeypatch.setattr("her2d.cluster.processor._POLL_S", 0.01)
    with open_scan(slide) as scan:
        outcome = local.score(scan).outcome
    digest = scan_hash(slide)
    (inbox,) = settings.intake.inboxes
    job = jobs.discover(slide, inbox, FileState.of(slide))
    jobs.queue(job)
    pread = os.pread

    def site_with(*names: str, broken: set[str], max_attempts: int = 3) -> Site:
        nodes = Nodes(names, digest, outcome)
        nodes.broken = broken

        def read(descriptor: int, size: int, at: int) -> bytes:
            is_lost = THIS_MACHINE in broken and at + size > BAD_SECTOR
            if is_lost and Path(f"/proc/self/fd/{descriptor}").readlink() == slide:
                raise OSError(errno.EIO, DETAIL)
            return pread(descriptor, size, at)

        monkeypatch.setattr(os, "pread", read)
        intake = settings.intake.model_copy(update={"max_attempts": max_attempts})
        return Site(settings.model_copy(update={"intake": intake}), local, nodes, storage)

    return site_with


def bad_sector(*nodes: str) -> set[str]:
    return {*nodes, THIS_MACHINE}


def test_a_bad_sector_ends_a_file_after_as_many_machines_as_it_has_attempts(site_with):
    nodes = ("alpha", "beta", "gamma")
    site = site_with(*nodes, broken=bad_sector(*nodes))
    job = site.attempts(30)
    assert (job.state, job.attempts, job.claim) == (JobState.QUARANTINED, 3, 3)
    assert job.unreadable_on == ("alpha", THIS_MACHINE, "beta")
    assert job.reason == (
        "The nodes alpha and beta, and this machine cannot read a.tif: Input/output error. Its"
        " storage may have lost a part of it. Scan or copy it again. Given up after 3 attempts."
    )


def test_with_one_node_the_daemons_machine_is_the_second_reader_of_a_bad_sector(site_with):
    job = site_with("alpha", broken=bad_sector("alpha")).attempts(30)
    assert (job.state, job.attempts, job.claim) == (JobState.QUARANTINED, 3, 3)
    assert str(job.reason).startswith("The node alpha and this machine cannot read a.tif: ")


def test_a_node_whose_mount_is_broken_costs_no_slide(site_with):
    site = site_with("alpha", "beta", broken={"alpha"})
    first = site.attempt()
    assert (first.state, first.unreadable_on) == (JobState.FAILED, ("alpha",))
    assert first.reason == (
        "The node alpha cannot read a.tif: Input/output error. This machine reads it next."
    )
    assert site.attempt().state is JobState.DONE
    assert site.nodes.read_by == ["alpha", "beta"]
    assert site.nodes.sent == b""


def test_a_file_that_no_node_reads_and_the_daemons_machine_does_is_sent(site_with, slide):
    site = site_with("alpha", broken={"alpha"})
    assert site.attempts(30).state is JobState.DONE
    assert site.nodes.read_by == ["alpha", "alpha"]
    assert site.nodes.sent == slide.read_bytes()


def test_broken_mounts_of_all_nodes_end_no_file_that_the_daemons_machine_reads(site_with):
    """Where it cannot be sent, it waits a day for the mounts, as for a share that is not there."""
    nodes = ("alpha", "beta", "gamma")
    site = site_with(*nodes, broken=set(nodes))
    site.sends_files = False
    job = site.attempts(6)
    assert (job.state, job.attempts) == (JobState.FAILED, 1)
    assert job.unreadable_on == nodes
    assert job.reason == (
        "The node alpha cannot read a.tif, and this machine can: Input/output error. Check the"
        " share on that node."
    )
    site.nodes.broken.clear()
    assert site.attempt().state is JobState.DONE


def test_a_day_of_broken_mounts_ends_the_file_with_what_is_wrong(site_with):
    site = site_with("alpha", broken={"alpha"})
    site.sends_files = False
    site.attempt()
    with closing(open_existing(site.settings.results.database)) as db:
        db.execute("update jobs set unforeseen = ?", [MOST_UNFORESEEN - 1])
    job = site.attempt()
    assert job.state is JobState.QUARANTINED
    assert "Check the share on that node. Given up after 30 attempts." in str(job.reason)


def test_the_last_attempt_of_a_file_is_not_a_nodes_whose_mount_is_broken(site_with):
    """Two other machines may read it, so the daemon's machine comes before any end."""
    site = site_with("alpha", "beta", broken={"alpha"}, max_attempts=1)
    assert site.attempt().state is JobState.FAILED
    assert site.attempt().state is JobState.DONE


def test_a_file_with_one_attempt_ends_once_a_node_and_the_daemons_machine_cannot_read_it(site_with):
    job = site_with("alpha", "beta", broken=bad_sector("alpha", "beta"), max_attempts=1).attempts(
        30
    )
    assert (job.state, job.claim) == (JobState.QUARANTINED, 2)
    assert job.unreadable_on == ("alpha", THIS_MACHINE)


def test_a_node_that_reads_what_another_and_the_daemons_machine_cannot_scores_the_slide(site_with):
    site = site_with("alpha", "beta", broken=bad_sector("alpha"))
    assert site.attempts(30).state is JobState.DONE
    assert site.nodes.read_by == ["alpha", "beta"]


def test_a_node_that_does_not_reach_the_file_is_no_reader_of_it(site_with):
    site = site_with("alpha", broken={"alpha"})
    site.nodes.next = lambda *_: Failure(ScanNotOnNodeError("The node alpha does not reach it."))
    job = site.attempts(2)
    assert (job.state, job.attempts, job.unreadable_on) == (JobState.FAILED, 0, ())
