"""One scan -> its recorded result: what `run` and `scan` share.

Hash the file, score it in the pipeline, make sure it did not change meanwhile, draw the heatmap,
and store everything in one transaction.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from pathlib import Path

from sqlite_utils import Database

from her2d.bundle.integrator import Integrator
from her2d.bundle.loading import Bundle, load_bundle
from her2d.db.retry import until_written
from her2d.inference.engine import DeviceLostError, EngineError
from her2d.inference.options import EngineOptions
from her2d.inference.selection import open_engine
from her2d.inference.self_test import self_test
from her2d.pipeline.outcome import SlideOutcome
from her2d.pipeline.pipeline import Pipeline
from her2d.pipeline.rules import Limits, rules_of
from her2d.pipeline.slide_run import Progress, SlideCancelledError
from her2d.pipeline.stages import Observe
from her2d.processing.engine_health import EngineHealth
from her2d.processing.records import (
    RunClock,
    heatmap_data,
    quality_record,
    run_record,
    slide_record,
    tile_table,
)
from her2d.queue.job import Job
from her2d.queue.store import JobQueue
from her2d.results.heatmap import render_heatmap, write_png
from her2d.results.pictures import Pictures, write_pictures
from her2d.results.queries import result_of_run, slide_with_result
from her2d.results.records import (
    BundleRecord,
    PictureRecord,
    QualityRecord,
    RunRecord,
    SlideRecord,
    SlideResult,
    StepTiming,
    TileTable,
)
from her2d.results.store import record_run
from her2d.settings import Settings
from her2d.system.file_identity import FileState, content_hash
from her2d.system.linux import be_idle

_LOOK_UP_S = 0.2
_STEM_BYTES = 200
_IO_ERROR = "I/O error"  # how `her2d.slides` names a block that the disk could not read


class DuplicateScanError(Exception):
    """The same bytes have a result by the same bundle already."""

    def __init__(self, slide_id: int, digest: str) -> None:
        super().__init__(f"The same scan was already processed as slide {slide_id}.")
        self.slide_id = slide_id
        self.content_hash = digest


class FileChangedError(Exception):
    """The file was written to while it was read, or since it had settled."""


class ClaimLostError(Exception):
    """The job is somebody else's by now; nothing was recorded."""


class UnreadableStorageError(Exception):
    """The storage returned I/O errors for parts of the file; another try may get more."""


class ResultsUnwritableError(OSError):
    """The heatmap cannot be written; nothing was recorded. Not the slide's fault."""


@dataclass(frozen=True, slots=True)
class _Scored:
    """A slide's result before it is recorded."""

    slide: SlideRecord
    run: RunRecord
    tiles: TileTable
    quality: QualityRecord
    pictures: PictureRecord
    timings: tuple[StepTiming, ...]


class SlideProcessor:
    """A pipeline with what it takes to store its outcomes. Safe to use from several threads."""

    def __init__(
        self,
        settings: Settings,
        bundle: Bundle,
        pipeline: Pipeline,
        backend: str,
        hashing: ThreadPoolExecutor,
    ) -> None:
        self.bundle = bundle
        self.backend = backend
        self.pipeline = pipeline
        self._settings = settings
        self._hashing = hashing
        self._contents = _InUse()
        self._health = EngineHealth()

    def process_job(
        self,
        jobs: JobQueue,
        job: Job,
        *,
        cancel: threading.Event,
        heartbeat: Callable[[], None] = lambda: None,
    ) -> SlideResult:
        """Score and record a claimed job, which is done with it.

        A database that is busy, full or unwritable is waited for until `cancel` is set. `heartbeat`
        is called, from any thread, whenever something was achieved.

        Raises:
            DuplicateScanError: the content has a result by this bundle.
            FileChangedError: it is not the file that had settled, or was written to meanwhile.
            ClaimLostError: somebody else has the job by now.
            UnreadableStorageError: the storage returned I/O errors, and attempts are left.
            ResultsUnwritableError, and what `process` raises.
        """
        before = FileState.of(job.path)
        if not before.same_file(FileState(job.inode, job.size, job.mtime_ns)):
            raise FileChangedError(f"{job.path.name} changed after it had settled.")

        def beat() -> None:
            heartbeat()
            if cancel.is_set():
                raise SlideCancelledError("The slide was cancelled.")

        clock = RunClock(job.queued_at)
        digest = self._hash(job.path, beat)
        clock.step_ended("hash")
        until_written(lambda: jobs.hashed(job, digest), cancel, heartbeat)
        with self._contents.alone(digest, beat):
            self._refuse_duplicate(jobs.database, digest)
            scored = self._score(
                job.path,
                before,
                digest,
                clock,
                job=job,
                cancel=cancel,
                progress=lambda *_: heartbeat(),
            )
            run_id = until_written(lambda: self._record_job(jobs, job, scored), cancel, heartbeat)
        return result_of_run(jobs.database, run_id)

    def process(self, db: Database, path: Path, *, progress: Progress | None = None) -> SlideResult:
        """Score and record one file. `db` belongs to the calling thread.

        Raises:
            SlideError: it is no readable slide; nothing was recorded.
            SlideCancelledError: as the pipeline's futures do.
            EngineError, MemoryError: the engine failed, and the slide may be why.
            EngineDownError: it fails whatever it is given.
            DeviceLostError: it cannot succeed in this process.
            FileChangedError: it was written to meanwhile.
            ResultsUnwritableError: the heatmap cannot be written.
            OSError: it cannot be read.
            sqlite3.Error: the result could not be stored.
        """
        before = FileState.of(path)
        clock = RunClock(queued_at=None)
        digest = self._hash(path, lambda: None)
        clock.step_ended("hash")
        scored = self._score(path, before, digest, clock, progress=progress)
        run_id = self._record(db, scored)
        return result_of_run(db, run_id)

    def _hash(self, path: Path, beat: Callable[[], None]) -> str:
        hashing = self._hashing.submit(copy_context().run, content_hash, path, beat=beat)
        return hashing.result()

    def _refuse_duplicate(self, db: Database, digest: str) -> None:
        slide_id = slide_with_result(db, digest, self.bundle.digest)
        if slide_id is not None:
            raise DuplicateScanError(slide_id, digest)

    def _score(
        self,
        path: Path,
        before: FileState,
        digest: str,
        clock: RunClock,
        *,
        job: Job | None = None,
        cancel: threading.Event | None = None,
        progress: Progress | None = None,
    ) -> _Scored:
        outcome = self._scored(path, cancel, progress)
        if FileState.of(path) != before:
            raise FileChangedError(f"{path.name} changed while it was read.")
        if job is not None and job.attempts < self._settings.intake.max_attempts:
            _refuse_io_errors(path, outcome)
        clock.step_ended("tiles")
        heatmap = self._heatmap_path(path, digest)
        pictures = _drawn(heatmap, path.name, outcome)
        clock.step_ended("pictures")
        return _Scored(
            slide_record(path, digest, outcome),
            run_record(outcome, clock, heatmap, self.backend),
            tile_table(outcome),
            quality_record(outcome.quality),
            pictures,
            clock.timings,
        )

    def _scored(
        self, path: Path, cancel: threading.Event | None, progress: Progress | None
    ) -> SlideOutcome:
        try:
            outcome = self.pipeline.submit(
                path,
                assume_magnification=self._settings.intake.assume_magnification,
                cancel=cancel,
                progress=progress,
            ).result()
        except DeviceLostError:
            raise
        except (EngineError, MemoryError) as error:
            raise self._health.judged(error) from error
        self._health.worked()
        return outcome

    def _record_job(self, jobs: JobQueue, job: Job, scored: _Scored) -> int:
        """The claim, the absence of another result, and this result: one transaction."""
        with jobs.together():
            if not jobs.holds(job):
                raise ClaimLostError(f"Job {job.id} is somebody else's by now.")
            self._refuse_duplicate(jobs.database, scored.slide.content_hash)
            return self._record(jobs.database, scored, job)

    def _record(self, db: Database, scored: _Scored, job: Job | None = None) -> int:
        return record_run(
            db,
            slide=scored.slide,
            bundle=self._bundle_record(),
            run=scored.run,
            tiles=scored.tiles,
            quality=scored.quality,
            pictures=scored.pictures,
            timings=scored.timings,
            job_id=job.id if job is not None else None,
        )

    def _heatmap_path(self, path: Path, digest: str) -> Path:
        content = digest.partition(":")[2][:12]
        # A file's name may be as long as its file system allows: ours has more to say.
        stem = path.stem.encode("utf-8", "surrogateescape")[:_STEM_BYTES].decode("utf-8", "ignore")
        name = f"{stem}.{content}.{self.bundle.digest[:8]}.png"
        return self._settings.results.heatmaps / name

    def _bundle_record(self) -> BundleRecord:
        manifest = self.bundle.manifest
        return BundleRecord(
            self.bundle.digest, manifest.name, manifest.version, manifest.model_dump_json()
        )


class _InUse:
    """Contents that are being processed: copies that arrive together are run one by one."""

    def __init__(self) -> None:
        self._digests: set[str] = set()
        self._changed = threading.Condition()

    @contextmanager
    def alone(self, digest: str, beat: Callable[[], None]) -> Iterator[None]:
        """Hold a content, waiting for whoever has it; what `beat` raises ends the wait."""
        with self._changed:
            while digest in self._digests:
                beat()
                self._changed.wait(_LOOK_UP_S)
            self._digests.add(digest)
        try:
            yield
        finally:
            with self._changed:
                self._digests.discard(digest)
                self._changed.notify_all()


@contextmanager
def open_processor(
    settings: Settings, observe: Observe = lambda _: None
) -> Iterator[SlideProcessor]:
    """Load and verify the bundle, open the engine, start the pipeline; end all of it after.

    `observe` is told of each batch, from the pipeline's threads.

    Raises:
        BundleError, EngineError: it cannot start; the sentence says why.
    """
    bundle = load_bundle(settings.bundle.path)
    integrator = Integrator(bundle)
    engine = open_engine(
        bundle, backend=settings.inference.backend, options=engine_options(settings)
    )
    limits = pipeline_limits(settings)
    # Reading a file for its hash must not slow the scanner that writes the next one.
    hashing = ThreadPoolExecutor(
        limits.slides_in_flight, thread_name_prefix="her2d-hash", initializer=be_idle
    )
    try:
        self_test(engine)
        with hashing, Pipeline(engine, integrator, rules_of(bundle), limits, observe) as pipeline:
            yield SlideProcessor(settings, bundle, pipeline, engine.backend, hashing)
    finally:
        engine.close()


def pipeline_limits(settings: Settings) -> Limits:
    """The settings in the words of the pipeline."""
    wanted = settings.pipeline
    return Limits(
        decode_workers=wanted.decode_workers,
        slides_in_flight=wanted.slides_in_flight,
        queue_tiles=wanted.queue_tiles,
        segmenter_batch=wanted.segmenter_batch,
        classifier_batch=wanted.classifier_batch,
        batch_wait_s=wanted.batch_wait_s,
    )


def engine_options(settings: Settings) -> EngineOptions:
    """The settings in the words of inference."""
    precision = settings.inference.precision
    return EngineOptions(
        precision=None if precision == "auto" else precision,
        threads=settings.inference.threads,
        segmenter_batch=settings.pipeline.segmenter_batch,
        classifier_batch=settings.pipeline.classifier_batch,
        kept_tiles=settings.pipeline.queue_tiles,
    )


def _refuse_io_errors(path: Path, outcome: SlideOutcome) -> None:
    """A share that drops away fails like a bad sector does: try again before it counts as one."""
    if _IO_ERROR in (outcome.unreadable_reason or ""):
        raise UnreadableStorageError(
            f"The storage of {path.name} returned errors: {outcome.unreadable_reason}."
        )


def _drawn(heatmap: Path, name: str, outcome: SlideOutcome) -> PictureRecord:
    """Write the heatmap, and beside it what it was drawn from. Raises ResultsUnwritableError."""
    overview = outcome.overview
    try:
        write_png(heatmap, render_heatmap(heatmap_data(name, outcome)))
        return write_pictures(
            heatmap.with_suffix(""), Pictures(overview.rgb, overview.tumor, overview.tile_px)
        )
    except OSError as error:
        raise ResultsUnwritableError(
            f"The heatmap cannot be written to {heatmap.parent}: {error.strerror or error}."
        ) from error
