"""The Python API: score slides, and read the results that the daemon wrote.

from her2d import Scorer, Results

with Scorer("engines/her2net-demo") as scorer:
    print(scorer.score("slide.tif").status)

with Results("her2d.sqlite") as results:
    print(len(results.list(status="positive")))
"""

import threading
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from her2d.bundle.loading import Bundle, load_bundle
from her2d.bundle.site_calibration import with_calibration
from her2d.db.connection import open_readonly
from her2d.pipeline.evaluability import ReasonCode
from her2d.pipeline.outcome import TileClass, is_tumor
from her2d.pipeline.scoring import Her2Status
from her2d.pipeline.slide_quality import SlideQuality
from her2d.pipeline.slide_run import Progress
from her2d.pipeline.software import Software
from her2d.processing.identity import open_scan
from her2d.processing.processor import ScoredSlide, SlideProcessor, open_processor
from her2d.processing.records import heatmap_data
from her2d.results.heatmap import render_heatmap
from her2d.results.listing import Order, ResultFilter, SortKey, count_results, list_results
from her2d.results.queries import find_slide, result_of_slide
from her2d.results.records import QualityFlag, SlideResult
from her2d.settings import (
    Backend,
    BundleSettings,
    InferenceSettings,
    IntakeSettings,
    Precision,
    Settings,
    demo_bundle,
)

Status = Her2Status | Literal["positive", "negative", "indeterminate"]


@dataclass(frozen=True, slots=True)
class TileArrays:
    """The tiles of a slide; all arrays are (rows, columns) of the 4x grid.

    Attributes:
        tile_class: uint8, a `TileClass` each.
        tumor_pixels: int32, 0 where the segmenter did not look.
        p_strong: float32, the integrator's probability, NaN outside tumour tiles.
        p_folds: float32 (rows, columns, 5), the sub-classifiers' probabilities, likewise. With
            `[inference] run_all_classifiers = false`, NaN is also what was not computed.
        attention: float32, the weight of each tumour tile in the call, NaN outside tumour tiles;
            None for a bundle that classifies tiles, and without a call.
    """

    tile_class: NDArray[np.uint8]
    tumor_pixels: NDArray[np.int32]
    p_strong: NDArray[np.float32]
    p_folds: NDArray[np.float32]
    attention: NDArray[np.float32] | None = None

    @property
    def strong(self) -> NDArray[np.bool_]:
        """bool: tumour tiles of high HER2 expression."""
        return np.asarray(self.tile_class == TileClass.STRONG, bool)

    @property
    def tumor(self) -> NDArray[np.bool_]:
        """bool: tumour tiles."""
        return is_tumor(self.tile_class)


@dataclass(frozen=True, slots=True)
class SlideScore(ScoredSlide):
    """One slide's score and what it rests on."""

    @property
    def status(self) -> Her2Status:
        """Positive, negative, or indeterminate with a `reason`."""
        return self.outcome.score.her2_status

    @property
    def reason(self) -> str | None:
        """The reason for an indeterminate status, in one sentence; None for a call."""
        return self.outcome.score.reason

    @property
    def reason_code(self) -> ReasonCode | None:
        """The same reason as a code."""
        return self.outcome.score.reason_code

    @property
    def percent(self) -> float | None:
        """P of equation 1 (paper, section 4.6) in percent; None without a call, and without P."""
        return self.outcome.score.high_expression_percent

    @property
    def positive_probability(self) -> float | None:
        """The probability that the slide is HER2-positive, by a bundle that calls it as a whole.

        None without a call, and for HER2Net's bundles.
        """
        return self.outcome.score.positive_probability

    @property
    def interval(self) -> tuple[float, float] | None:
        """The interval of `percent`; None without that."""
        score = self.outcome.score
        if score.ci_low is None or score.ci_high is None:
            return None
        return score.ci_low, score.ci_high

    @property
    def interval_meaning(self) -> str | None:
        """What `interval` is an interval of, and whether it is calibrated; or why there is none."""
        return self.outcome.score.ci_meaning

    @property
    def borderline(self) -> bool:
        """Whether the interval holds the threshold."""
        return self.outcome.score.borderline

    @property
    def send_to_ihc(self) -> bool | None:
        """Whether the laboratory's calibration sends the slide to IHC; None without one."""
        return self.outcome.score.send_to_ihc

    @property
    def quality(self) -> SlideQuality:
        """How good the scan is."""
        return self.outcome.quality

    @property
    def tiles(self) -> TileArrays:
        """The tiles, as arrays."""
        outcome = self.outcome
        return TileArrays(
            outcome.tile_class,
            outcome.tumor_pixels,
            outcome.p_strong,
            outcome.p_folds,
            outcome.attention,
        )

    def heatmap(self) -> NDArray[np.uint8]:
        """Draw the slide with its HER2-high tumour in brown: uint8 (H, W, 3) RGB."""
        return render_heatmap(heatmap_data(self.path.name, self.outcome))


class Scorer:
    """A bundle, an engine and a pipeline that score slides until closed.

    Safe to use from several threads: slides that are scored at the same time share the engine.
    """

    def __init__(
        self,
        bundle: Bundle | Path | str | None = None,
        *,
        backend: Backend = "auto",
        precision: Precision = "auto",
        threads: int = 0,
        assume_magnification: float | None = None,
        settings: Settings | None = None,
    ) -> None:
        """Verify the bundle unless it is loaded, open the engine and test it on one tile.

        Args:
            bundle: a bundle, or its folder; None takes the one of `settings`, or else the
                demonstration bundle. The laboratory's calibration beside the folder is used.
            backend: the engine's back end; `auto` takes the best that works here.
            precision: the engine's precision.
            threads: the engine's threads, 0 for one a core.
            assume_magnification: objective magnification where a file states none.
            settings: the whole configuration, in place of the four arguments before.

        Raises:
            BundleError, EngineError: it cannot start; the sentence says why.
        """
        if settings is None:
            settings = Settings.model_construct(
                bundle=BundleSettings(path=demo_bundle(Path.cwd())),
                inference=InferenceSettings(backend=backend, precision=precision, threads=threads),
                intake=IntakeSettings(
                    assume_magnification=(
                        {} if assume_magnification is None else {"*": assume_magnification}
                    )
                ),
            )
        if not isinstance(bundle, Bundle):
            # The settings' calibration is of the settings' bundle.
            configured = settings.bundle.calibration if bundle is None else None
            folder = settings.bundle.path if bundle is None else bundle
            bundle = with_calibration(load_bundle(folder), configured)
        self._resources = ExitStack()
        self._processor = self._resources.enter_context(open_processor(bundle, settings))

    @property
    def processor(self) -> SlideProcessor:
        """The processor that scores, for callers that record what it scores."""
        return self._processor

    @property
    def bundle(self) -> Bundle:
        """The bundle that scores."""
        return self._processor.bundle

    @property
    def backend(self) -> str:
        """The back end that was chosen."""
        return self._processor.backend

    @property
    def software(self) -> Software:
        """The libraries and versions that score, as they are recorded with each result."""
        return self._processor.software

    def score(
        self,
        slide: Path | str,
        *,
        cancel: threading.Event | None = None,
        progress: Progress | None = None,
    ) -> SlideScore:
        """Score one slide and return when it is done.

        Args:
            slide: the file.
            cancel: set from another thread to end early.
            progress: called with tiles done and tiles in all, from any thread.

        Raises:
            SlideError: it is not a readable slide, or too few of its tiles can be read to call it
                (TooFewTilesError); the sentence says why.
            SlideCancelledError: `cancel` was set, or the scorer was closed.
            EngineError, MemoryError: the engine failed.
            FileChangedError: the file was written to meanwhile.
            OSError: the file cannot be read.
        """
        with open_scan(Path(slide)) as scan:
            scored = self._processor.score(scan, cancel=cancel, progress=progress)
        return SlideScore(
            scored.path, scored.outcome, scored.stamp, scored.first_block, scored.tiles_s
        )

    def close(self) -> None:
        """Cancel the slides that are being scored and free the engine."""
        self._processor.pipeline.close()
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Results:
    """The results of one database, read while the daemon writes. For one thread."""

    def __init__(self, database: Path | str) -> None:
        """Open the database read-only. Raises DatabaseError."""
        self._db = open_readonly(Path(database))

    def list(
        self,
        *,
        status: Status | None = None,
        reason_code: ReasonCode | None = None,
        borderline: bool | None = None,
        send_to_ihc: bool | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        bundle: str | None = None,
        text: str | None = None,
        flags: Iterable[QualityFlag] = (),
        sort: SortKey = SortKey.FINISHED,
        descending: bool = True,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[SlideResult]:
        """Return a page of the slides' current results, newest first by default.

        Args:
            status: only slides with this status.
            reason_code: only slides without a call for this reason.
            borderline: whether the interval holds the threshold.
            send_to_ihc: whether the laboratory's calibration sends the slide to IHC.
            since: UTC; finished at or after it.
            until: UTC; finished before it.
            bundle: a bundle's name, or its name and version with a space between.
            text: part of the file name or the barcode, in either case.
            flags: every one of these quality flags is raised.
            sort: what the page is sorted by.
            descending: largest, newest or last first.
            limit: results at the most.
            offset: results to skip.
        """
        wanted = ResultFilter(
            status=None if status is None else Her2Status(status).value,
            reason_code=None if reason_code is None else ReasonCode(reason_code),
            borderline=borderline,
            send_to_ihc=send_to_ihc,
            since=since,
            until=until,
            bundle=bundle,
            text=text,
            flags=frozenset(flags),
        )
        order = Order(sort, descending)
        return list_results(self._db, wanted, order=order, limit=limit, offset=offset)

    def get(self, slide: str | int) -> SlideResult:
        """Return the current result of a slide.

        Args:
            slide: its id as an integer; or its id, file name or barcode as text.

        Raises:
            SlideNotFound: no slide has it.
            AmbiguousSlide: several have it; the sentence names them.
        """
        if isinstance(slide, int):
            return result_of_slide(self._db, slide)
        return find_slide(self._db, slide)

    def __len__(self) -> int:
        """The number of slides that have a result."""
        return count_results(self._db)

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
