"""Which files a worker reads to their end before it scores them, and which beside their tiles."""

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from her2d.daemon.shutdown import StopSignals
from her2d.daemon.storage_probe import StorageProbe
from her2d.daemon.worker import Worker
from her2d.monitoring.metrics import Metrics
from her2d.processing.duplicates import ContentLocks
from her2d.processing.processor import SlideProcessor, open_processor
from her2d.processing.recorder import Recorder
from her2d.queue.backfills import Backfills
from her2d.queue.claims import ClaimRegistry
from her2d.queue.job import Job, JobState
from her2d.queue.store import JobQueue
from her2d.settings import (
    InferenceSettings,
    IntakeSettings,
    PipelineSettings,
    ResultsSettings,
    Settings,
)
from her2d.system.file_identity import FileState, content_hash

MIB = 1 << 20


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory) -> Settings:
    folder = tmp_path_factory.mktemp("laboratory")
    return Settings(
        inference=InferenceSettings(threads=1),
        intake=IntakeSettings(inboxes=(folder / "inbox",)),
        results=ResultsSettings(database=folder / "her2d.sqlite", heatmaps=folder / "heatmaps"),
        pipeline=PipelineSettings(segmenter_batch=1, classifier_batch=1, slides_in_flight=1),
    )


@pytest.fixture(scope="module")
def processor(laboratory, color_bundle) -> Iterator[SlideProcessor]:
    with open_processor(color_bundle, laboratory) as processor:
        yield processor


@pytest.fixture
def settings(laboratory, tmp_path) -> Settings:
    (tmp_path / "inbox").mkdir()
    return laboratory.model_copy(
        update={
            "intake": IntakeSettings(inboxes=(tmp_path / "inbox",)),
            "results": ResultsSettings(
                database=tmp_path / "her2d.sqlite", heatmaps=tmp_path / "heatmaps"
            ),
        }
    )


class SomeJobs(ClaimRegistry):
    """Ends the workers after so many jobs."""

    def __init__(self, signals: StopSignals, number: int = 1) -> None:
        super().__init__()
        self._signals = signals
        self._left = number

    def release(self, job: Job) -> None:
        super().release(job)
        self._left -= 1
        if self._left == 0:
            self._signals.stop_requested.set()


class Site:
    """One worker, whose processor notes what it does with a file."""

    def __init__(
        self, settings: Settings, jobs: JobQueue, storage: StorageProbe, processor: SlideProcessor
    ) -> None:
        self.settings, self.jobs, self.storage, self.processor = settings, jobs, storage, processor
        (self.inbox,) = settings.intake.inboxes

    def queued(self, path: Path, **columns: object) -> Job:
        job = self.jobs.discover(path, self.inbox, FileState.of(path))
        assert job is not None
        self.jobs.queue(job)
        for name, value in columns.items():
            self.jobs.database.execute(f"update jobs set {name} = ? where id = ?", [value, job.id])
        return self.jobs.get(job.id)

    def process(self, path: Path, **columns: object) -> Job:
        """Let a worker process a new file, and return its job."""
        (job,) = self.process_at_once(self.queued(path, **columns))
        return job

    def process_at_once(self, *queued: Job) -> list[Job]:
        """Let as many workers process the jobs, and return them."""
        signals, contents, processor = StopSignals(), ContentLocks(), self.processor
        claims = SomeJobs(signals, len(queued))
        worker = Worker(
            lambda: self.settings,
            processor,
            Recorder(processor.bundle, processor.software, self.settings.results.heatmaps),
            contents,
            Metrics(),
            signals,
            claims,
            self.storage,
        )
        threads = [threading.Thread(target=worker.run) for _ in queued]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return [self.jobs.get(job.id) for job in queued]


@pytest.fixture
def site(settings, jobs, storage, processor) -> Site:
    return Site(settings, jobs, storage, processor)


@pytest.fixture
def steps(processor, monkeypatch) -> list[str]:
    """The calls by which the worker has the processor hash and score."""
    found: list[str] = []

    def noted(name: str) -> Callable[..., object]:
        method = getattr(processor, name)

        def call(*args: object, **given: object) -> object:
            found.append(name)
            return method(*args, **given)

        return call

    for name in ("score", "hash_and_score"):
        monkeypatch.setattr(processor, name, noted(name))
    return found


@pytest.fixture
def slide(write_slide, site) -> Path:
    """A slide of three MiB."""
    path = write_slide(["wSw"], "a.tif", folder=site.inbox)
    with path.open("ab") as file:
        file.write(bytes(3 * MIB))
    return path


def with_last_byte(path: Path, value: int) -> Path:
    """Copy a file but for its last byte."""
    copy = path.with_name(f"{value}.tif")
    shutil.copy(path, copy)
    with copy.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(bytes([value]))
    return copy


def test_a_new_slide_is_scored_while_it_is_hashed(site, slide, steps):
    job = site.process(slide)
    assert job.state is JobState.DONE
    assert steps == ["hash_and_score"]
    assert job.content_hash == content_hash(slide)
    timings = site.jobs.database.query("select step from run_timings order by step")
    assert [row["step"] for row in timings] == ["hash", "pictures", "tiles"]


def test_a_copy_of_a_slide_with_a_result_is_recognised_without_scoring(site, slide, steps):
    first = site.process(slide)
    steps.clear()
    copy = site.process(Path(shutil.copy(slide, slide.with_name("copy.tif"))))
    assert copy.state is JobState.DUPLICATE
    assert (copy.slide_id, copy.content_hash) == (first.slide_id, content_hash(slide))
    assert steps == []


def test_a_renamed_slide_has_its_new_path_before_the_job_ends(site, slide):
    """A daemon that is killed between the two would leave the old path for good."""
    first = site.process(slide)
    site.jobs.database.execute(
        "create trigger following before update on jobs when new.state = 'duplicate'"
        " and new.path <> (select path from slides where id = new.slide_id)"
        " begin select raise(abort, 'the slide has not followed'); end"
    )
    renamed = site.process(slide.rename(slide.with_name("renamed.tif")))
    assert (renamed.state, renamed.slide_id) == (JobState.DUPLICATE, first.slide_id)
    (row,) = site.jobs.database.query("select path from slides")
    assert row["path"] == str(renamed.path)


def test_other_content_of_the_same_size_and_first_block_is_scored(site, slide, steps):
    first = site.process(slide)
    other = site.process(with_last_byte(slide, 1))
    assert other.state is JobState.DONE
    assert other.slide_id != first.slide_id
    assert steps == ["hash_and_score", "score"]


def test_a_slide_whose_first_block_was_not_noted_may_be_any(site, slide, steps):
    site.process(slide)
    site.jobs.database.execute("update slides set first_block = null")
    steps.clear()
    copy = Path(shutil.copy(slide, slide.with_name("copy.tif")))
    assert site.process(copy).state is JobState.DUPLICATE
    assert steps == []


def test_a_result_of_another_bundle_makes_no_duplicate(site, slide, steps):
    site.process(slide)
    site.jobs.database.execute("update bundles set digest = 'another'")
    copy = Path(shutil.copy(slide, slide.with_name("copy.tif")))
    assert site.process(copy).state is JobState.DONE
    assert steps == ["hash_and_score"] * 2


def test_after_an_interruption_the_file_is_read_to_its_end_before_it_is_scored(site, slide, steps):
    """Else a file that crashes its reader at once would never be counted as the cause."""
    job = site.process(slide, hash_first=1)
    assert job.state is JobState.DONE
    assert steps == ["score"]


def test_two_copies_at_once_are_scored_once(site, slide, steps):
    copy = Path(shutil.copy(slide, slide.with_name("copy.tif")))
    found = site.process_at_once(site.queued(slide), site.queued(copy))
    assert {job.state for job in found} == {JobState.DONE, JobState.DUPLICATE}
    assert steps == ["hash_and_score"]


@pytest.fixture
def archived(site, slide, tmp_path) -> tuple[Path, int]:
    """A slide of a back-fill, and the back-fill's id."""
    found = Backfills(site.jobs.database).request(tmp_path / "archive", "alice")
    (tmp_path / "archive").mkdir()
    path = tmp_path / "archive" / "a.tif"
    slide.rename(path)
    return path, found.id


@pytest.mark.parametrize("has_folder", [True, False])
def test_slides_of_a_back_fill_wait_while_its_share_is_not_mounted(site, archived, has_folder):
    path, of = archived
    job = site.queued(path, backfill_id=of, inbox=str(path.parent))
    path.unlink()
    if not has_folder:
        path.parent.rmdir()
    (job,) = site.process_at_once(job)
    assert (job.state, job.attempts) == (JobState.FAILED, 0)
    assert job.reason == f"a.tif cannot be read: {path.parent} is empty; mount its share."


def test_a_slide_that_was_removed_from_a_back_fills_folder_is_reported(site, archived):
    """No sweep looks for it, so that it would be forgotten if it counted as vanished."""
    path, of = archived
    job = site.queued(path, backfill_id=of, inbox=str(path.parent))
    path.rename(path.with_name("another.txt"))
    (job,) = site.process_at_once(job)
    assert (job.state, job.attempts) == (JobState.FAILED, 1)
    assert "a.tif is not in" in str(job.reason)
