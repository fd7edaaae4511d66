"""One scan -> its recorded result: what `run` and `scan` share.

Hash the file, score it in the pipeline, make sure it did not change meanwhile, draw the heatmap,
and store everything in one transaction.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from sqlite_utils import Database

from her2d import __version__
from her2d.bundle import Bundle, load_bundle
from her2d.inference import Integrator, open_engine
from her2d.intake import FileState, Job, content_hash
from her2d.intake.jobs import now
from her2d.pipeline import (
    Limits,
    Pipeline,
    Progress,
    QualityLimits,
    Rules,
    SlideOutcome,
    SlideQuality,
    StainReference,
    TileFate,
)
from her2d.results import (
    BundleRecord,
    HeatmapData,
    PictureRecord,
    Pictures,
    QualityRecord,
    RunRecord,
    SlideRecord,
    SlideResult,
    StageTiming,
    TileTable,
    record_run,
    render_heatmap,
    result_of_run,
    slide_with_result,
    write_pictures,
    write_png,
)
from her2d.settings import Settings


class DuplicateScanError(Exception):
    """The same bytes have a result by the same bundle already."""

    def __init__(self, slide_id: int, digest: str) -> None:
        super().__init__(f"The same scan was already processed as slide {slide_id}.")
        self.slide_id = slide_id
        self.content_hash = digest


class FileChangedError(Exception):
    """The file was written to while it was read."""


class SlideProcessor:
    """A pipeline with what it takes to store its outcomes. Safe to use from several threads."""

    def __init__(
        self, settings: Settings, bundle: Bundle, pipeline: Pipeline, backend: str
    ) -> None:
        self.bundle = bundle
        self.backend = backend
        self.pipeline = pipeline
        self._settings = settings

    def process_job(self, db: Database, job: Job, *, cancel: threading.Event) -> SlideResult:
        """Score and record a claimed job, which is done with it.

        Raises:
            DuplicateScanError: the content has a result by this bundle.
            FileChangedError, OSError, and what `process` raises.
        """
        digest = content_hash(job.path)
        slide_id = slide_with_result(db, digest, self.bundle.digest)
        if slide_id is not None:
            raise DuplicateScanError(slide_id, digest)
        return self.process(
            db, job.path, digest=digest, job=job, queued_at=job.queued_at, cancel=cancel
        )

    def process(
        self,
        db: Database,
        path: Path,
        *,
        digest: str | None = None,
        job: Job | None = None,
        queued_at: str | None = None,
        cancel: threading.Event | None = None,
        progress: Progress | None = None,
    ) -> SlideResult:
        """Score and record one file. `db` belongs to the calling thread.

        Raises:
            SlideError: it is no readable slide; nothing was recorded.
            EngineError, SlideCancelledError: as the pipeline's futures do.
            FileChangedError: it was written to meanwhile.
            OSError: it cannot be read, or the heatmap cannot be written.
            sqlite3.Error: the result could not be stored.
        """
        started_at, started = now(), time.monotonic()
        before = FileState.of(path)
        steps = _Steps()
        digest = digest or content_hash(path)
        steps.ended("hash")
        outcome = self.pipeline.submit(
            path,
            assume_magnification=self._settings.intake.assume_magnification,
            cancel=cancel,
            progress=progress,
        ).result()
        if FileState.of(path) != before:
            raise FileChangedError(f"{path.name} changed while it was read.")
        steps.ended("tiles")
        heatmap = self._heatmap_path(path, digest)
        pictures = _draw(path.name, outcome, heatmap)
        steps.ended("pictures")
        run_id = record_run(
            db,
            slide=_slide_record(path, digest, outcome),
            bundle=self._bundle_record(),
            run=self._run_record(outcome, heatmap, queued_at, started_at, started),
            tiles=tile_table(outcome),
            quality=quality_record(outcome.quality),
            pictures=pictures,
            timings=steps.timings,
            job_id=job.id if job is not None else None,
        )
        return result_of_run(db, run_id)

    def _heatmap_path(self, path: Path, digest: str) -> Path:
        content = digest.partition(":")[2][:12]
        name = f"{path.stem}.{content}.{self.bundle.digest[:8]}.png"
        return self._settings.results.heatmaps / name

    def _bundle_record(self) -> BundleRecord:
        manifest = self.bundle.manifest
        return BundleRecord(
            self.bundle.digest, manifest.name, manifest.version, manifest.model_dump_json()
        )

    def _run_record(
        self,
        outcome: SlideOutcome,
        heatmap: Path,
        queued_at: str | None,
        started_at: str,
        started: float,
    ) -> RunRecord:
        score, grid = outcome.score, outcome.grid
        return RunRecord(
            her2_status=score.status.value,
            reason=score.reason,
            high_expression_percent=score.high_expression_percent,
            ci_low=score.ci_low,
            ci_high=score.ci_high,
            borderline=score.borderline,
            tumor_pixels=score.tumor_pixels,
            strong_pixels=score.strong_pixels,
            tiles_total=grid.rows * grid.columns,
            tiles_tissue=outcome.count(TileFate.NON_TUMOR, TileFate.WEAK, TileFate.STRONG),
            tiles_tumor=score.tiles_tumor,
            tiles_strong=score.tiles_strong,
            tiles_unreadable=outcome.count(TileFate.UNREADABLE),
            unreadable_reason=outcome.unreadable_reason,
            grid_columns=grid.columns,
            grid_rows=grid.rows,
            um_per_px=grid.um_per_px,
            level0_downsample=grid.level0_downsample,
            backend=self.backend,
            software_version=__version__,
            heatmap_path=str(heatmap),
            queued_at=queued_at,
            started_at=started_at,
            finished_at=now(),
            elapsed_s=round(time.monotonic() - started, 3),
        )


class _Steps:
    """Wall time between the ends of a run's steps."""

    def __init__(self) -> None:
        self.timings: list[StageTiming] = []
        self._since = time.monotonic()

    def ended(self, step: str) -> None:
        now_ = time.monotonic()
        self.timings.append(StageTiming(step, round(now_ - self._since, 3)))
        self._since = now_


@contextmanager
def open_processor(settings: Settings) -> Iterator[SlideProcessor]:
    """Load and verify the bundle, open the engine, start the pipeline; end all of it after.

    Raises:
        BundleError, EngineError: it cannot start; the sentence says why.
    """
    bundle = load_bundle(settings.bundle.path)
    integrator = Integrator(bundle)
    engine = open_engine(
        bundle, backend=settings.inference.backend, threads=settings.inference.threads
    )
    preprocessing = bundle.manifest.preprocessing
    rules = Rules(
        saturation=preprocessing.saturation,
        tumor_fraction=preprocessing.tumor_fraction,
        threshold=bundle.manifest.decision.threshold,
        quality=_quality_limits(bundle),
    )
    wanted = settings.pipeline
    limits = Limits(
        decode_workers=wanted.decode_workers,
        slides_in_flight=wanted.slides_in_flight,
        queue_tiles=wanted.queue_tiles,
        segmenter_batch=wanted.segmenter_batch,
        classifier_batch=wanted.classifier_batch,
        batch_wait_s=wanted.batch_wait_s,
    )
    try:
        with Pipeline(engine, integrator, rules, limits) as pipeline:
            yield SlideProcessor(settings, bundle, pipeline, engine.backend)
    finally:
        engine.close()


def _draw(name: str, outcome: SlideOutcome, heatmap: Path) -> PictureRecord:
    """Write the heatmap and, beside it, what other pictures are made of later."""
    write_png(heatmap, render_heatmap(heatmap_data(name, outcome)))
    overview = outcome.overview
    return write_pictures(
        heatmap.with_suffix(""), Pictures(overview.rgb, overview.tumor, overview.tile_px)
    )


def _quality_limits(bundle: Bundle) -> QualityLimits:
    stain = bundle.manifest.stain
    return QualityLimits(stain=StainReference(stain.mean, stain.std) if stain else None)


def quality_record(quality: SlideQuality) -> QualityRecord:
    """A finished slide's quality in the words of the database."""
    red, green, blue = quality.density or (None, None, None)
    return QualityRecord(
        tissue_mm2=quality.tissue_mm2,
        tumor_mm2=quality.tumor_mm2,
        focus=quality.focus,
        blurred_percent=quality.blurred_percent,
        fold_percent=quality.fold_percent,
        pen_percent=quality.pen_percent,
        stain_red=red,
        stain_green=green,
        stain_blue=blue,
        stain_distance=quality.stain_distance,
        blurred=quality.blurred,
        folded=quality.folded,
        pen_marked=quality.pen_marked,
        stain_outlier=quality.stain_outlier,
    )


def heatmap_data(name: str, outcome: SlideOutcome) -> HeatmapData:
    """A finished slide in the words of the heatmap."""
    score, grid, overview = outcome.score, outcome.grid, outcome.overview
    reduction = grid.tile_size / overview.tile_px
    subtitle = score.reason or ""
    if score.high_expression_percent is not None:
        subtitle = (
            f"{score.high_expression_percent:.1f} % of tumour is HER2-high"
            f" (95 % interval {score.ci_low:.1f} to {score.ci_high:.1f} %); positive from 10 %"
        )
        if score.borderline:
            subtitle += "; borderline"
    return HeatmapData(
        rgb=overview.rgb,
        tumor=overview.tumor,
        tile_px=overview.tile_px,
        p_strong=outcome.p_strong,
        strong=outcome.fate == TileFate.STRONG,
        unreadable=outcome.fate == TileFate.UNREADABLE,
        um_per_px=grid.um_per_px * reduction,
        width=max(1, round(grid.width / reduction)),
        height=max(1, round(grid.height / reduction)),
        title=f"{name}: HER2 {score.status.value}".encode("ascii", "replace").decode(),
        subtitle=subtitle,
    )


def tile_table(outcome: SlideOutcome) -> TileTable:
    """The outcome's tiles that are not background, in row-major order."""
    row, column = np.nonzero(outcome.fate != TileFate.BACKGROUND)
    fates = outcome.fate[row, column]
    return TileTable(
        row=row,
        column=column,
        fate=tuple(TileFate(fate).name.lower() for fate in fates),
        tumor_pixels=outcome.tumor_pixels[row, column],
        p_strong=outcome.p_strong[row, column],
        p_folds=outcome.p_folds[row, column],
    )


def _slide_record(path: Path, digest: str, outcome: SlideOutcome) -> SlideRecord:
    metadata = outcome.metadata
    return SlideRecord(
        content_hash=digest,
        file_name=path.name,
        path=str(path),
        barcode=metadata.barcode,
        vendor=metadata.vendor,
        width=metadata.width,
        height=metadata.height,
        magnification=metadata.magnification,
        mpp=metadata.mpp,
    )
