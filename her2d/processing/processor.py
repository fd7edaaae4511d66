"""Score one scan, for `run`, `scan` and the Python API.

The processor knows neither queue nor database: callers record and retry.
"""

import threading
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar

from her2d.bundle.integrator import Integrator
from her2d.bundle.loading import Bundle
from her2d.bundle.made_with import log_other_scikit_learn
from her2d.inference.engine import DeviceLostError, Engine, EngineError, TileEngine
from her2d.inference.mil_engine import mil_self_test, open_mil_engine
from her2d.inference.options import BatchSizes, EngineOptions, usual_batch
from her2d.inference.plans import PlanFiles
from her2d.inference.selection import open_engine, unused_plans
from her2d.inference.self_test import self_test
from her2d.method import MethodName
from her2d.pipeline.early_decision import EarlyDecision, bundle_problem
from her2d.pipeline.her2net import Her2Net
from her2d.pipeline.mil import AttentionMethod
from her2d.pipeline.outcome import SlideOutcome, TileClass
from her2d.pipeline.pipeline import Pipeline
from her2d.pipeline.rules import Limits, PipelineRules, rules_of
from her2d.pipeline.slide_method import Method
from her2d.pipeline.slide_run import Flag, Progress, SlideCancelledError
from her2d.pipeline.software import Software, software_of
from her2d.pipeline.stages import Observe
from her2d.processing.engine_health import EngineHealth
from her2d.processing.errors import TooFewTilesError
from her2d.processing.hashing import IdleHashing
from her2d.processing.identity import Scan
from her2d.processing.threads import pools_of, require_threads
from her2d.settings import Settings
from her2d.system.file_identity import FileStamp
from her2d.system.loggers import get_logger

log = get_logger(__name__)

AnyEngine = TypeVar("AnyEngine", bound=TileEngine)
AssumeMagnification = Callable[[Path, Path | None], float | None]
"""Return the magnification to assume for a file, given its inbox; None to assume none."""


@dataclass(frozen=True, slots=True)
class ScoredSlide:
    """A slide that was scored and not yet recorded.

    Attributes:
        path: the file.
        outcome: its score, and the arrays it rests on.
        stamp: what the file looked like when it was scored.
        first_block: see `Scan.first_block`.
        tiles_s: seconds that its tiles took.
    """

    path: Path
    outcome: SlideOutcome
    stamp: FileStamp
    first_block: str
    tiles_s: float


class Processor(Protocol):
    """Scores scans, in this process or elsewhere. Safe to use from several threads.

    Attributes:
        bundle, software: what scores, as recorded with each result.
        capacity: number of slides that it takes at once now; 0 while it cannot take any.
        pipeline: this process's own; None if it scores elsewhere.
        unused_plans: compiled plans that were passed over for a slower one or a slower back end.
        nodes: names of the machines that score now, other than this one.
    """

    @property
    def bundle(self) -> Bundle: ...
    @property
    def software(self) -> Software: ...
    @property
    def pipeline(self) -> Pipeline | None: ...
    @property
    def unused_plans(self) -> tuple[PlanFiles, ...]: ...
    @property
    def capacity(self) -> int: ...
    @property
    def nodes(self) -> frozenset[str]: ...

    def content_hash(self, scan: Scan, on_progress: Callable[[], None] = ...) -> str:
        """See `SlideProcessor.content_hash`."""
        ...

    def score(
        self,
        scan: Scan,
        *,
        inbox: Path | None = None,
        cancel: threading.Event | None = None,
        progress: Progress | None = None,
        content_hash: str | None = None,
        unreadable_on: Collection[str] = (),
    ) -> ScoredSlide:
        """See `SlideProcessor.score`.

        With `content_hash` a processor that opens the file elsewhere makes sure that it has this
        hash there.
        """
        ...

    def hash_and_score(
        self,
        scan: Scan,
        hashed: Callable[[str], None],
        *,
        on_hash_progress: Callable[[], None] = ...,
        inbox: Path | None = None,
        cancel: threading.Event | None = None,
        progress: Progress | None = None,
        unreadable_on: Collection[str] = (),
    ) -> tuple[str, ScoredSlide]:
        """See `SlideProcessor.hash_and_score`."""
        ...


class SlideProcessor:
    """Scores slides in one pipeline. Safe to use from several threads.

    Attributes:
        capacity: number of slides that it takes at once.
        unused_plans: compiled plans that were passed over for a slower one or a slower back end.
        nodes: none; it scores here.
        runs_all_because: why all sub-classifiers are run for every tumour tile although the
            settings do not ask for it; None if they do, or if not all are run.
    """

    nodes: frozenset[str] = frozenset()

    def __init__(
        self,
        bundle: Bundle,
        pipeline: Pipeline,
        software: Software,
        hashing: IdleHashing,
        slides_in_flight: int,
        *,
        assume_magnification: AssumeMagnification = lambda _path, _inbox: None,
        max_unreadable_percent: float = 100.0,
        unused_plans: tuple[PlanFiles, ...] = (),
        runs_all_because: str | None = None,
    ) -> None:
        self.bundle = bundle
        self.software = software
        self.unused_plans = unused_plans
        self.runs_all_because = runs_all_because
        self.pipeline = pipeline
        self.capacity = slides_in_flight
        self._hashing = hashing
        self._assume_magnification = assume_magnification
        self._max_unreadable_percent = max_unreadable_percent
        self._health = EngineHealth()

    @property
    def backend(self) -> str:
        """The engine's back end and precision, as recorded with each result."""
        return self.software.backend

    def content_hash(self, scan: Scan, on_progress: Callable[[], None] = lambda: None) -> str:
        """Return the scan's content hash, read at idle priority in a thread of the processor.

        `on_progress` is called at every MiB; what it raises ends the reading. Raises the
        errors of `Scan.content_hash`.
        """
        return self._hashing.content_hash(scan, on_progress)

    def score(
        self,
        scan: Scan,
        *,
        inbox: Path | None = None,
        cancel: threading.Event | None = None,
        progress: Progress | None = None,
        content_hash: str | None = None,
        unreadable_on: Collection[str] = (),
    ) -> ScoredSlide:
        """Score one scan.

        Args:
            scan: the slide, which the caller has opened.
            inbox: the inbox that it was found in, which may have its own assume_magnification.
            cancel: set to end the work early.
            progress: called with tiles done and tiles in all, from any thread.
            content_hash: the scan's, if it is known. This processor reads the file that is open,
                and does not need it; see `Processor`.
            unreadable_on: machines that could not read the file, which score it only if no other
                can. This processor has no other.

        Raises:
            SlideError: it is not a readable slide.
            TooFewTilesError: too few of its tiles could be read to call it.
            SlideCancelledError: `cancel` was set, or the pipeline was closed.
            EngineError, MemoryError: the engine failed, and the slide may be why.
            EngineDownError: the engine fails for every slide.
            DeviceLostError: it cannot succeed in this process.
            FileChangedError: the file was written to since it was opened.
            OSError: it cannot be read.
        """
        assumed = self._assume_magnification(scan.path, inbox)
        return self._scored(scan, self._begin(scan, assumed, cancel, progress))

    def hash_and_score(
        self,
        scan: Scan,
        hashed: Callable[[str], None],
        *,
        on_hash_progress: Callable[[], None] = lambda: None,
        inbox: Path | None = None,
        cancel: threading.Event | None = None,
        progress: Progress | None = None,
        unreadable_on: Collection[str] = (),
    ) -> tuple[str, ScoredSlide]:
        """Score one scan while its content hash is read beside its tiles, and return both.

        Both end before this returns or raises. No verdict on a file is given before all of it was
        read: an error of the hash comes before one of the tiles.

        Args:
            scan: the slide, which the caller has opened.
            hashed: called with the content hash once it is known, in the caller's thread; an error
                that it raises ends the attempt.
            on_hash_progress: as for `content_hash`.
            inbox, cancel, progress, unreadable_on: as for `score`.

        Raises:
            Exception: as `content_hash` and `score`.
        """
        return self.hash_and_score_assuming(
            scan,
            self._assume_magnification(scan.path, inbox),
            hashed,
            on_hash_progress=on_hash_progress,
            cancel=cancel,
            progress=progress,
        )

    def hash_and_score_assuming(
        self,
        scan: Scan,
        assume_magnification: float | None,
        hashed: Callable[[str], None],
        *,
        on_hash_progress: Callable[[], None] = lambda: None,
        cancel: threading.Event | None = None,
        progress: Progress | None = None,
    ) -> tuple[str, ScoredSlide]:
        """Do what `hash_and_score` does, with a magnification where the file states none."""
        abandoned = threading.Event()
        stop = _AnyOf(abandoned, cancel)
        scoring = self._begin(scan, assume_magnification, stop, progress)

        def continue_or_stop() -> None:
            on_hash_progress()
            if stop.is_set():
                raise SlideCancelledError("The slide was cancelled.")
            if scoring.ended_without_verdict():
                self._outcome(scoring)  # raises why

        try:
            digest = self.content_hash(scan, continue_or_stop)
            hashed(digest)
        except BaseException:
            abandoned.set()
            scoring.wait()  # it reads the open file
            raise
        return digest, self._scored(scan, scoring)

    def _begin(
        self,
        scan: Scan,
        assume_magnification: float | None,
        cancel: Flag | None,
        progress: Progress | None,
    ) -> "_Scoring":
        return _Scoring(
            self.pipeline.submit(
                scan.path,
                fd=scan.descriptor,
                assume_magnification=assume_magnification,
                cancel=cancel,
                progress=progress,
            )
        )

    def _scored(self, scan: Scan, scoring: "_Scoring") -> ScoredSlide:
        outcome = self._outcome(scoring)
        stamp, first_block = scan.stamp(), scan.first_block()
        scan.require_unchanged()
        _require_enough_tiles(scan.path, outcome, self._max_unreadable_percent)
        return ScoredSlide(scan.path, outcome, stamp, first_block, scoring.seconds)

    def _outcome(self, scoring: "_Scoring") -> SlideOutcome:
        try:
            outcome = scoring.future.result()
        except CancelledError as error:
            raise SlideCancelledError("The slide was cancelled.") from error
        except DeviceLostError:
            raise
        except (EngineError, MemoryError) as error:
            raise self._health.judged(error) from error
        self._health.worked()
        return outcome


class _AnyOf:
    """A flag that is set once any of some flags is."""

    def __init__(self, *flags: Flag | None) -> None:
        self._flags = [flag for flag in flags if flag is not None]

    def is_set(self) -> bool:
        return any(flag.is_set() for flag in self._flags)


class _Scoring:
    """A slide in the pipeline, and how long it was there."""

    def __init__(self, future: Future[SlideOutcome]) -> None:
        self.future = future
        self._began = time.monotonic()
        self._ended: list[float] = []
        ended = self._ended  # a callback that holds this object would keep the outcome alive
        future.add_done_callback(lambda _: ended.append(time.monotonic()))

    @property
    def seconds(self) -> float:
        """How long it took, or has taken so far."""
        return next(iter(self._ended), time.monotonic()) - self._began

    def wait(self) -> None:
        """Wait until it has ended, in any way."""
        # `concurrent.futures.wait` never returns for one that was cancelled before it began.
        with suppress(CancelledError):
            self.future.exception()

    def ended_without_verdict(self) -> bool:
        """Return whether it ended for a reason that says nothing about the file."""
        if not self.future.done():
            return False
        if self.future.cancelled():
            return True
        return isinstance(self.future.exception(), SlideCancelledError | EngineError | MemoryError)


def _require_enough_tiles(path: Path, outcome: SlideOutcome, max_percent: float) -> None:
    """Raise TooFewTilesError if too little of the slide could be read to call it.

    That is the case if what could not be read could change the call, or is more than `max_percent`
    of what may be tissue, so that P would be that of another part of the slide.
    """
    unreadable, tiles = outcome.count(TileClass.UNREADABLE), outcome.tile_class.size
    percent = outcome.unreadable_percent
    if unreadable == tiles:
        what = f"none of its {tiles} tiles could be read"
    elif outcome.unread_could_change_call:
        what = f"{unreadable} of its {tiles} tiles could not be read, which could change the call"
    elif percent > max_percent:
        what = (
            f"{unreadable} of its {tiles} tiles could not be read, {percent:.0f} % of what may be"
            " tissue"
        )
    else:
        return
    raise TooFewTilesError(
        path.name,
        f"has no result: {what} ({outcome.unreadable_reason}).",
        is_io_error=outcome.has_io_errors and outcome.lost_percent <= max_percent,
    )


@contextmanager
def open_processor(
    bundle: Bundle,
    settings: Settings,
    observe: Observe = lambda _: None,
    *,
    check: Callable[[Engine], None] = self_test,
) -> Iterator[SlideProcessor]:
    """Open a bundle's engine and start the pipeline; close both when the block ends.

    Args:
        bundle: the bundle that scores; the one that `settings` name is not read.
        settings: how the engine and the pipeline run.
        observe: called with each batch, from the pipeline's threads.
        check: raises EngineError if HER2Net's engine may not be used. That of a bundle with `mil`
            is compared with what its manifest states.

    Raises:
        BundleError, EngineError: it cannot start; the sentence says why.
    """
    require_threads(settings)
    rules = rules_of(bundle)
    with _opened_method(bundle, settings, rules, check) as opened:
        engine = opened.method.engine
        limits = pipeline_limits(settings, engine.batches)
        with (
            IdleHashing(limits.slides_in_flight) as hashing,
            Pipeline(opened.method, rules, limits, observe) as pipeline,
        ):
            yield SlideProcessor(
                bundle,
                pipeline,
                software_of(engine.backend),
                hashing,
                limits.slides_in_flight,
                assume_magnification=settings.intake.magnification_for,
                max_unreadable_percent=settings.pipeline.max_unreadable_percent,
                unused_plans=opened.unused_plans,
                runs_all_because=opened.runs_all_because,
            )


@dataclass(frozen=True, slots=True)
class _OpenedMethod:
    """A bundle's method with its engine, and what there is to say of how it runs.

    Attributes:
        unused_plans, runs_all_because: see `SlideProcessor`.
    """

    method: Method
    unused_plans: tuple[PlanFiles, ...] = ()
    runs_all_because: str | None = None


@contextmanager
def _opened_method(
    bundle: Bundle, settings: Settings, rules: PipelineRules, check: Callable[[Engine], None]
) -> Iterator[_OpenedMethod]:
    """Open a bundle's engine, check it, and close it when the block ends."""
    if bundle.manifest.method is MethodName.MIL:
        options = engine_options(settings)
        with _closing(
            open_mil_engine(bundle, backend=settings.inference.backend, options=options)
        ) as mil_engine:
            mil_self_test(mil_engine)
            yield _OpenedMethod(AttentionMethod(mil_engine))
        return
    integrator = Integrator(bundle)
    log_other_scikit_learn(bundle)
    runs_all = settings.inference.run_all_classifiers
    problem = None if runs_all else bundle_problem(integrator, rules.interval)
    wanted = settings.inference.backend
    options = replace(engine_options(settings), separate_folds=not runs_all and problem is None)
    with _closing(open_engine(bundle, backend=wanted, options=options)) as engine:
        unused = unused_plans(bundle, wanted, engine.backend, options)
        check(engine)
        early = None
        if not runs_all:
            batch = pipeline_limits(settings, engine.batches).classifier_batch
            problem = problem or engine.separate_folds_problem(batch)
            early = _early_decision(integrator, rules, problem)
        yield _OpenedMethod(Her2Net(engine, integrator, early), unused, problem)


@contextmanager
def _closing(engine: AnyEngine) -> Iterator[AnyEngine]:
    try:
        yield engine
    finally:
        engine.close()


def _early_decision(
    integrator: Integrator, rules: PipelineRules, problem: str | None
) -> EarlyDecision | None:
    """Return what decides tiles early; None, with a warning in the log, if there is a problem."""
    if problem is not None or integrator.forest is None:
        log.warning("all_classifiers_run", reason=problem)
        return None
    return EarlyDecision(integrator.forest, integrator.tile_cut, rules.interval)


def pipeline_limits(settings: Settings, batches: BatchSizes) -> Limits:
    """Return the pipeline's limits as the settings have them, or else as suits an engine."""
    wanted = settings.pipeline
    return Limits(
        decode_workers=pools_of(settings).decode_workers,
        slides_in_flight=wanted.slides_in_flight,
        queue_tiles=wanted.queue_tiles,
        segmenter_batch=wanted.segmenter_batch or batches.segmenter,
        classifier_batch=wanted.classifier_batch or batches.classifiers,
        batch_wait_s=wanted.batch_wait_s,
    )


def engine_options(settings: Settings) -> EngineOptions:
    """Return the engine's options as the settings have them. Only engines on a GPU use batches."""
    on_gpu = usual_batch("tensorrt")
    precision = settings.inference.precision
    return EngineOptions(
        precision=None if precision == "auto" else precision,
        threads=pools_of(settings).engine_threads,
        segmenter_batch=settings.pipeline.segmenter_batch or on_gpu,
        classifier_batch=settings.pipeline.classifier_batch or on_gpu,
        kept_tiles=settings.pipeline.queue_tiles,
    )
