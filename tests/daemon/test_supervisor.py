"""Workers that fail or end unexpectedly, and the outcomes of their jobs."""

import errno
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from captured_logs import capture_logs

from her2d.archive.archiver import Archiver
from her2d.daemon import shutdown
from her2d.daemon.shutdown import StopSignals
from her2d.daemon.supervisor import Supervisor
from her2d.daemon.worker import Worker
from her2d.db.retry import WriteCancelledError
from her2d.inference.engine import DeviceLostError, EngineError
from her2d.monitoring.metrics import Metrics
from her2d.pipeline.slide_run import SlideCancelledError
from her2d.processing.duplicates import ContentLocks
from her2d.processing.engine_health import EngineDownError
from her2d.processing.errors import (
    ActorCrashedError,
    ClaimLostError,
    ClusterLostError,
    DuplicateScanError,
    FileChangedError,
    ResultLostError,
    ResultsUnwritableError,
    ScanNotOnNodeError,
    UnreadableStorageError,
)
from her2d.processing.retry_policy import MOST_UNFORESEEN
from her2d.queue.claims import ClaimRegistry
from her2d.queue.job import Job, JobState
from her2d.queue.operator import retry
from her2d.queue.store import JobQueue
from her2d.settings import IntakeSettings, PipelineSettings, ResultsSettings, Settings
from her2d.slides.errors import SlideError, SlideUnavailableError
from her2d.system.file_identity import FileState

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


class Fails:
    """A processor that raises or calls its arguments in order, then refuses every file."""

    capacity = 1
    bundle = SimpleNamespace(digest="d" * 64)

    def __init__(self, *errors: BaseException | Callable[[], None]) -> None:
        self.errors = list(errors)

    def hash_and_score(self, scan, _hashed, *, on_hash_progress, **_):
        return self.content_hash(scan, on_hash_progress)

    def content_hash(self, scan, on_progress):
        if not self.errors:
            raise SlideError(scan.path.name, "was reached")
        error = self.errors.pop(0)
        if callable(error):
            error()
            return self.content_hash(scan, on_progress)
        raise error


@pytest.fixture
def settings(tmp_path) -> Settings:
    (tmp_path / "inbox").mkdir()
    return Settings(
        intake=IntakeSettings(
            inboxes=(tmp_path / "inbox",),
            archive=tmp_path / "inbox" / "archive",
            stalled_after_s=0.2,
        ),
        results=ResultsSettings(database=tmp_path / "her2d.sqlite"),
        pipeline=PipelineSettings(slides_in_flight=1, drain_s=0),
    )


@pytest.fixture
def queued(jobs, settings):
    (inbox,) = settings.intake.inboxes
    (inbox / "a.tif").write_bytes(b"scan")
    job = jobs.discover(inbox / "a.tif", inbox, FileState.of(inbox / "a.tif"))
    jobs.queue(job)
    return job


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def supervisor_of(settings, storage, metrics) -> Iterator[Callable[..., Supervisor]]:
    signals = StopSignals()
    supervisors = []

    def make(processor: Fails, settings: Settings = settings) -> Supervisor:
        supervisors.append(Supervisor(lambda: settings, processor, None, metrics, signals, storage))
        return supervisors[-1]

    yield make
    signals.stop_requested.set()
    for supervisor in supervisors:
        supervisor.drain()


def check_until(supervisor: Supervisor, jobs: JobQueue, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        supervisor.check(jobs)
        time.sleep(0.05)


def state(jobs: JobQueue, job) -> JobState:
    return jobs.get(job.id).state


@pytest.mark.parametrize("error", [SystemExit(3), GeneratorExit()], ids=repr)
@pytest.mark.slow
def test_a_worker_that_ends_unexpectedly_is_replaced_and_its_job_is_queued_again(
    jobs, queued, supervisor_of, error
):
    supervisor = supervisor_of(Fails(error))
    check_until(supervisor, jobs, lambda: state(jobs, queued) is JobState.QUARANTINED)
    assert jobs.get(queued.id).claim == 2


def test_a_job_stays_in_the_queue_while_the_processor_has_no_place_for_it(
    jobs, queued, supervisor_of
):
    processor = Fails()
    processor.capacity = 0
    supervisor = supervisor_of(processor)
    time.sleep(1.2)  # a worker looks for a job twice a second
    assert state(jobs, queued) is JobState.QUEUED
    processor.capacity = 1
    check_until(supervisor, jobs, lambda: state(jobs, queued) is JobState.QUARANTINED)


@pytest.mark.parametrize(
    "error",
    [ClusterLostError("gone"), ScanNotOnNodeError("not there"), ResultLostError("no room")],
)
def test_what_a_cluster_lost_costs_the_slide_no_attempt(jobs, queued, supervisor_of, error):
    supervisor = supervisor_of(Fails(error))
    check_until(supervisor, jobs, lambda: state(jobs, queued) is JobState.FAILED)
    assert jobs.get(queued.id).attempts == 0
    assert jobs.get(queued.id).reason == str(error)


def test_an_unexpected_error_is_retried_later_with_its_reason(jobs, queued, supervisor_of):
    supervisor = supervisor_of(Fails(ZeroDivisionError("a bug")))
    check_until(supervisor, jobs, lambda: state(jobs, queued) is JobState.FAILED)
    assert jobs.get(queued.id).reason == "ZeroDivisionError: a bug"


@pytest.mark.slow
def test_the_only_slide_that_always_fails_is_counted_and_quarantined_after_a_day(
    jobs, queued, supervisor_of, metrics
):
    supervisor = supervisor_of(Fails(*[ZeroDivisionError("a bug")] * (MOST_UNFORESEEN + 1)))
    no_wait = "update jobs set not_before = null where id = ?"

    def has_ended() -> bool:
        jobs.database.execute(no_wait, [queued.id])
        return state(jobs, queued) is JobState.QUARANTINED

    check_until(supervisor, jobs, has_ended)
    ended = jobs.get(queued.id)
    assert (ended.attempts, ended.claim) == (1, MOST_UNFORESEEN)
    assert ended.reason.startswith("ZeroDivisionError: a bug. Given up after 30 attempts.")
    assert ended.path.exists()
    found = metrics.registry.get_sample_value("her2d_unforeseen_errors_total", {"of": "slide"})
    assert found == MOST_UNFORESEEN
    assert retry(jobs, queued.id).unforeseen == 0


@pytest.mark.slow
def test_a_node_that_scores_nothing_costs_a_slide_no_attempt_while_others_score(
    jobs, queued, supervisor_of
):
    processor = Fails()
    supervisor = supervisor_of(processor)

    def another_is_scored() -> None:
        supervisor._failures.scored(99, time.monotonic())

    hangs = ActorCrashedError("alpha made no progress", "alpha", 7)
    processor.errors += [hangs, *[another_is_scored, hangs] * 4]

    def has_ended() -> bool:
        jobs.database.execute("update jobs set not_before = null where id = ?", [queued.id])
        return state(jobs, queued) is JobState.QUARANTINED

    check_until(supervisor, jobs, has_ended)
    ended = jobs.get(queued.id)
    assert "was reached" in ended.reason
    assert (ended.attempts, ended.claim) == (1, 6)


def caused(error: Exception, cause: OSError) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "expected", "attempts"),
    [
        (SlideError("a.tif", "is a PNG"), JobState.QUARANTINED, 1),
        (
            caused(SlideUnavailableError("a.tif", "is busy"), OSError(errno.EBUSY, "busy")),
            JobState.SETTLING,
            0,
        ),
        (OSError(errno.ESTALE, "Stale file handle"), JobState.SETTLING, 0),
        (PermissionError(errno.EACCES, "Permission denied"), JobState.SETTLING, 0),
        (FileChangedError("a.tif changed while it was read."), JobState.SETTLING, 0),
        (SlideCancelledError("Stopped."), JobState.QUEUED, 0),
        (WriteCancelledError("Stopped."), JobState.QUEUED, 0),
        (ResultsUnwritableError("The heatmap cannot be written."), JobState.FAILED, 0),
        (UnreadableStorageError("The storage returned errors."), JobState.FAILED, 1),
        (EngineError("The engine failed."), JobState.FAILED, 0),
        (RuntimeError("can't start new thread"), JobState.FAILED, 0),
        (OSError(errno.EMFILE, "Too many open files"), JobState.FAILED, 0),
        (MemoryError(), JobState.FAILED, 0),
        (EngineDownError("CUDA out of memory."), JobState.FAILED, 0),
        (DeviceLostError("The GPU is lost."), JobState.QUEUED, 0),
        (
            caused(ResultsUnwritableError("No."), OSError(errno.ENAMETOOLONG, "too long")),
            JobState.FAILED,
            1,
        ),
        (
            caused(ResultsUnwritableError("No."), OSError(errno.ENOSPC, "no room")),
            JobState.FAILED,
            0,
        ),
        (sqlite3.IntegrityError("CHECK constraint failed"), JobState.FAILED, 1),
        (sqlite3.OperationalError("disk I/O error"), JobState.FAILED, 0),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_a_job_loses_an_attempt_only_if_its_file_may_be_the_cause(
    jobs, queued, job_after, error, expected, attempts
):
    found = job_after(error)
    assert (found.state, found.attempts) == (expected, attempts)
    assert found.reason or expected is JobState.QUEUED


def test_a_worker_that_lost_its_claim_leaves_the_job_as_it_is(jobs, queued, job_after):
    assert job_after(ClaimLostError("Another worker has it.")).state is JobState.RUNNING


def test_a_slide_on_a_share_that_hangs_settles_again(jobs, queued, job_after, storage, monkeypatch):
    monkeypatch.setattr(storage, "is_reachable", lambda _: False)
    found = job_after(AssertionError("the file was read"))
    assert (found.state, found.attempts) == (JobState.SETTLING, 0)
    assert found.reason == "a.tif cannot be read: its storage does not answer."


def test_an_archived_slide_whose_archive_hangs_is_retried_and_does_not_settle_again(
    jobs, queued, job_after, storage, settings, monkeypatch
):
    archived = settings.intake.archive / "a.tif"
    jobs.database.execute("update jobs set path = ? where id = ?", [str(archived), queued.id])
    monkeypatch.setattr(storage, "is_reachable", lambda path: path != archived)
    found = job_after(AssertionError("the file was read"))
    assert (found.state, found.attempts) == (JobState.FAILED, 0)
    assert found.reason == "a.tif cannot be read: its storage does not answer."


@pytest.fixture
def job_after(settings, jobs, queued, storage):
    """Run one worker in this thread, let one error occur, and return the job."""

    def work(error: Exception):
        signals = StopSignals()

        class OneJob(ClaimRegistry):
            def release(self, job) -> None:
                super().release(job)
                signals.stop_requested.set()

        Worker(
            lambda: settings,
            Fails(error),
            None,
            ContentLocks(),
            Metrics(),
            signals,
            OneJob(),
            storage,
        ).run()
        return jobs.get(queued.id)

    return work


def test_the_log_line_of_a_duplicate_names_the_slide_that_has_the_result(jobs, job_after):
    jobs.database.execute(
        "insert into slides (id, content_hash, file_name, path, vendor, width, height,"
        " magnification, first_seen_at) values (7, 'blake2b:00', 'b.tif', '/b.tif', 'generic',"
        " 1, 1, 4, '2026-01-01T00:00:00.000000Z')"
    )
    with capture_logs() as log:
        job = job_after(DuplicateScanError(7, "blake2b:00"))
    assert job.state is JobState.DUPLICATE
    line = next(line for line in log if line["event"] == "slide_duplicate")
    assert (line["slide_id"], line["level"]) == (7, "info")


@pytest.fixture
def retried_in(jobs, settings, queued, job_after) -> Callable[[Path], Job]:
    """Set the path of the queued job, and return the job after a worker did not find the file."""

    def work(folder: Path) -> Job:
        jobs.database.execute("update jobs set path = ?", [str(folder / "a.tif")])
        return job_after(FileNotFoundError(errno.ENOENT, "No such file or directory"))

    return work


@pytest.mark.parametrize("folder", ["archive", "inbox/archive"])
def test_a_file_missing_from_its_archive_is_retried_because_sweeps_do_not_find_it(
    retried_in, tmp_path, folder
):
    found = retried_in(tmp_path / folder)
    assert (found.state, found.attempts) == (JobState.FAILED, 1)


def test_a_file_missing_from_its_inbox_has_vanished(retried_in, settings):
    (inbox,) = settings.intake.inboxes
    assert retried_in(inbox / "day").state is JobState.VANISHED


def test_a_file_that_stays_missing_from_its_archive_is_quarantined_and_can_be_retried(
    jobs, settings, queued, retried_in, tmp_path
):
    jobs.database.execute("update jobs set attempts = 2")
    found = retried_in(tmp_path / "archive")
    assert found.state is JobState.QUARANTINED
    assert found.reason == (
        f"a.tif is not in {tmp_path / 'archive'}, where it was archived. Given up after 3 attempts."
    )
    assert retry(jobs, queued.id).path == tmp_path / "archive" / "a.tif"


@pytest.mark.slow
def test_an_active_job_has_a_heartbeat(jobs, queued, supervisor_of):
    resume = threading.Event()
    supervisor = supervisor_of(Fails(lambda: resume.wait(60)))
    try:
        check_until(supervisor, jobs, lambda: state(jobs, queued) is JobState.RUNNING)
        first = jobs.get(queued.id).heartbeat_at
        check_until(supervisor, jobs, lambda: jobs.get(queued.id).heartbeat_at > first)
    finally:
        resume.set()


def test_a_job_that_makes_no_progress_is_reported_as_stalled(jobs, queued, supervisor_of):
    resume = threading.Event()
    supervisor = supervisor_of(Fails(lambda: resume.wait(60)))
    try:
        check_until(supervisor, jobs, lambda: supervisor.stalled() is not None)
        assert supervisor.stalled().job.id == queued.id
    finally:
        resume.set()
    check_until(supervisor, jobs, lambda: supervisor.stalled() is None)


@pytest.mark.parametrize("name", ["a.tif", "sub/a.tif"])
def test_a_job_whose_path_now_leads_out_of_the_inbox_is_refused(
    jobs, supervisor_of, settings, tmp_path, name
):
    (inbox,) = settings.intake.inboxes
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a.tif").write_bytes(b"not yours")
    path = inbox / name
    if path.parent != inbox:
        path.parent.symlink_to(outside)
    else:
        path.symlink_to(outside / "a.tif")
    job = jobs.discover(path, inbox, FileState.of(path))
    jobs.queue(job)
    check_until(supervisor_of(Fails()), jobs, lambda: state(jobs, job) is JobState.QUARANTINED)
    reason = jobs.get(job.id).reason
    assert reason == "a.tif lies behind a link, and links in an inbox are not followed"


def test_nothing_is_claimed_while_intake_is_paused(jobs, queued, settings, storage):
    signals = StopSignals()
    signals.paused.set()
    supervisor = Supervisor(lambda: settings, Fails(), None, Metrics(), signals, storage)
    time.sleep(1)
    assert state(jobs, queued) is JobState.QUEUED
    signals.paused.clear()
    check_until(supervisor, jobs, lambda: state(jobs, queued) is JobState.QUARANTINED)
    signals.stop_requested.set()
    supervisor.drain()


@pytest.fixture
def stalled_archive(jobs, settings, hanging_archive) -> Settings:
    """Settings that move a finished file to an archive that hangs."""
    (inbox,) = settings.intake.inboxes
    path = inbox / "a.tif"
    path.write_bytes(b"scan")
    job = jobs.discover(path, inbox, FileState.of(path))
    jobs.move(job, JobState.DONE, {})
    update = {"on_success": "move", "archive": hanging_archive}
    return settings.model_copy(update={"intake": settings.intake.model_copy(update=update)})


@pytest.mark.slow
def test_an_archive_that_hangs_is_reported_once_and_delays_no_slide(
    jobs, settings, stalled_archive, supervisor_of
):
    (inbox,) = settings.intake.inboxes
    with capture_logs() as log:
        supervisor = supervisor_of(Fails(), stalled_archive)
        check_until(supervisor, jobs, lambda: supervisor.archive_problem is not None)
        (inbox / "b.tif").write_bytes(b"scan")
        job = jobs.discover(inbox / "b.tif", inbox, FileState.of(inbox / "b.tif"))
        jobs.queue(job)
        check_until(supervisor, jobs, lambda: state(jobs, job) is JobState.QUARANTINED)
        check_until(supervisor, jobs, lambda: supervisor.stalled() is None)
    stalled = [line for line in log if line["event"] == "archive_stalled"]
    assert [line["level"] for line in stalled] == ["error"]


def test_a_stop_does_not_wait_for_an_archive_thread_that_hangs(
    jobs, stalled_archive, storage, monkeypatch
):
    monkeypatch.setattr(shutdown, "_ARCHIVE_STOPS_S", 0.5)
    signals = StopSignals()
    supervisor = Supervisor(lambda: stalled_archive, Fails(), None, Metrics(), signals, storage)
    check_until(supervisor, jobs, lambda: supervisor.archive_problem is not None)
    signals.stop_requested.set()
    with capture_logs() as log:
        supervisor.drain()
    assert [line["event"] for line in log] == ["archive_thread_not_stopped"]


def test_an_archive_thread_that_ends_unexpectedly_is_replaced(
    jobs, settings, supervisor_of, monkeypatch
):
    errors = iter([SystemExit(3)])
    rounds = threading.Event()

    def round_(*_) -> None:
        for error in errors:
            raise error
        rounds.set()

    monkeypatch.setattr(Archiver, "round", round_)
    check_until(supervisor_of(Fails()), jobs, rounds.is_set)
