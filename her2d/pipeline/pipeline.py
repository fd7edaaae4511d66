"""The producer/consumer queue: decode -> inspect -> upload -> segment -> tumour gate -> classify
-> call.

Each slide in flight has a thread that reads its tiles and, once every tile is settled, has the
bundle's method call the slide; upload, segmentation and classification have one thread each, shared
by all slides. Queues between them are bounded, so the slowest stage sets the pace and memory stays
what it is.
"""

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from types import TracebackType
from typing import Self

from her2d.pipeline.batch_queue import BatchQueue
from her2d.pipeline.bottleneck import Bottleneck, Occupancy, PipelineTimes, RecentBottleneck
from her2d.pipeline.decoding import DecodeTally
from her2d.pipeline.evaluability import UnreadTiles
from her2d.pipeline.inspection import InspectedTile, inspected
from her2d.pipeline.outcome import (
    SlideOutcome,
    TileClass,
    is_tumor,
    pixels_that_may_be_tumor,
)
from her2d.pipeline.rules import Limits, PipelineRules
from her2d.pipeline.saturation import mean_saturation
from her2d.pipeline.slide_method import Method, SlideFindings
from her2d.pipeline.slide_run import Flag, Progress, SlideCancelledError, SlideRun
from her2d.pipeline.stages import (
    Observe,
    Stage,
    TileWork,
    TumorTile,
    UploadedBatch,
    segment,
    upload,
)
from her2d.slides.block_times import block_time, read_time
from her2d.slides.glass import DARKEST_GLASS
from her2d.slides.grid import UnreadableTile
from her2d.slides.label import with_label_barcode
from her2d.slides.protocol import Slide
from her2d.slides.reader import open_slide
from her2d.slides.scale import find_scale_doubt
from her2d.system.stopwatch import Stopwatch

# One batch is uploaded or waits while another is segmented; more would only take memory.
_UPLOADED_BATCHES = 1
_AHEAD_PER_WORKER = 2


class Pipeline:
    """Scores slides until closed. Safe to submit to from several threads."""

    def __init__(
        self,
        method: Method,
        rules: PipelineRules | None = None,
        limits: Limits | None = None,
        observe: Observe = lambda _: None,
    ) -> None:
        """Start the stages.

        Args:
            method: judges tumour tiles and slides, by the engine of its bundle.
            rules: what the pipeline decides by.
            limits: how much it holds at once.
            observe: called with each batch, from the stages' threads.
        """
        engine = method.engine
        self._method = method
        self._cpus = engine.cpus
        self._rules = rules or PipelineRules()
        self._limits = limits = limits or Limits()
        self._closing = threading.Event()
        self.decoding = DecodeTally()
        self._occupancy = Occupancy()
        self._scoring = Stopwatch()
        self._classify_queue: BatchQueue[TumorTile] = BatchQueue(limits.queue_tiles)
        self._segment_queue: BatchQueue[UploadedBatch] = BatchQueue(_UPLOADED_BATCHES)
        self._upload_queue: BatchQueue[TileWork] = BatchQueue(limits.queue_tiles)
        self.uploading = Stage(
            "upload",
            self._upload_queue,
            upload(engine, self._segment_queue),
            batch=limits.segmenter_batch,
            fill_s=limits.batch_wait_s,
            observe=observe,
            hands_to=self._segment_queue,
        )
        self.segmenting = Stage(
            "segment",
            self._segment_queue,
            segment(self._classify_queue, self._rules.tumor_fraction),
            batch=1,
            fill_s=0.0,
            observe=observe,
            hands_to=self._classify_queue,
            cpus=engine.cpus,
        )
        self.classifying = Stage(
            "classify",
            self._classify_queue,
            method.tumor_work(limits.classifier_batch),
            batch=limits.classifier_batch,
            most=method.most_at_once(limits),
            fill_s=limits.batch_wait_s,
            observe=observe,
            cpus=engine.cpus,
        )
        self._slides = ThreadPoolExecutor(limits.slides_in_flight, thread_name_prefix="her2d-slide")
        self._inspectors = ThreadPoolExecutor(
            limits.decode_workers * limits.slides_in_flight, thread_name_prefix="her2d-inspect"
        )
        self._recent = RecentBottleneck(self.times())
        for stage in (self.uploading, self.segmenting, self.classifying):
            stage.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def submit(
        self,
        path: Path,
        *,
        fd: int | None = None,
        assume_magnification: float | None = None,
        cancel: Flag | None = None,
        progress: Progress | None = None,
    ) -> Future[SlideOutcome]:
        """Score the slide at `path` as soon as there is room for it.

        The caller's log context is bound to every log line about the slide, in all threads.

        Args:
            path: a whole-slide TIFF.
            fd: its descriptor if it is open already; it must stay open until the future is done.
            assume_magnification: objective magnification where the file states none.
            cancel: set it to give the slide up.
            progress: called with (tiles settled, tiles in all) from the pipeline's threads.

        The future raises `her2d.slides.SlideError` for a file that is not a readable slide,
        `her2d.inference.EngineError` where the engine failed on one of its tiles, and
        `SlideCancelledError` where it was cancelled or the pipeline closed. A pipeline that is
        closed already raises that here.
        """
        if self._closing.is_set():
            raise SlideCancelledError("The pipeline is closed.")
        cancel = cancel or threading.Event()
        return self._slides.submit(
            copy_context().run, self._score, path, fd, assume_magnification, cancel, progress
        )

    def times(self) -> PipelineTimes:
        """Return how long each part of the pipeline has worked so far."""
        occupied_s, slide_s = self._occupancy.read()
        stages = (self.uploading, self.segmenting, self.classifying)
        return PipelineTimes(
            at=time.monotonic(),
            occupied_s=occupied_s,
            slide_s=slide_s,
            tile_wait_s=self.decoding.wait_s,
            decode_s=block_time.seconds + self.decoding.inspecting.seconds,
            read_s=read_time.seconds,
            score_s=self._scoring.seconds,
            stages={stage.name: stage.busy_s for stage in stages},
        )

    def bottleneck(self) -> Bottleneck:
        """Return what limited the pipeline in the last five minutes."""
        return self._recent.advance(self.times())

    def close(self) -> None:
        """Cancel the slides in flight, end every thread, and return when they have ended."""
        self._closing.set()
        self._slides.shutdown(wait=True, cancel_futures=True)
        self._inspectors.shutdown(wait=True, cancel_futures=True)
        self._upload_queue.close()
        self.uploading.join()
        self._segment_queue.close()
        self.segmenting.join()
        self._classify_queue.close()
        self.classifying.join()

    def _score(
        self,
        path: Path,
        fd: int | None,
        assume_magnification: float | None,
        cancel: Flag,
        progress: Progress | None,
    ) -> SlideOutcome:
        def cancelled() -> bool:
            return cancel.is_set() or self._closing.is_set()

        if cancelled():
            raise SlideCancelledError("The slide was cancelled.")
        with (
            self._occupancy.slide(),
            open_slide(
                path,
                assume_magnification=assume_magnification,
                um_per_px=self._rules.um_per_px,
                fd=fd,
            ) as slide,
        ):
            run = SlideRun(slide.grid, cancelled, progress)
            self._feed(slide, run)
            run.wait()
            with self._scoring.running():
                return self._finish(slide, run)

    def _feed(self, slide: Slide, run: SlideRun) -> None:
        workers = self._limits.decode_workers
        tiles = slide.tiles(workers=workers)
        found = inspected(
            tiles,
            self._inspectors,
            ahead=_AHEAD_PER_WORKER * workers,
            small_px=run.small_px,
            limits=self._rules.quality,
            cpus=self._cpus,
            stopwatch=self.decoding.inspecting,
        )
        try:
            for tile in self.decoding.timed(found):
                if run.ended:
                    return
                if not isinstance(tile, InspectedTile):
                    self._settle_unreadable(slide, run, tile)
                    continue
                row, column = tile.tile.row, tile.tile.column
                run.seen(row, column, tile.small)
                run.quality.add(tile.quality, self._rules.quality)
                if tile.saturation <= self._rules.saturation:
                    run.background(row, column)
                    continue
                work = TileWork(run, row, column, tile.tile.pixels, tile.quality.artefacts)
                self._upload_queue.put(work, abandoned=work.given_up)
        finally:
            found.close()
            tiles.close()

    def _settle_unreadable(self, slide: Slide, run: SlideRun, tile: UnreadableTile) -> None:
        """Settle a tile as background if a coarser level shows bare glass, else as unreadable."""
        glimpse = slide.glimpse(tile.column, tile.row)
        if (
            glimpse is not None
            and mean_saturation(glimpse) <= self._rules.saturation
            and float(glimpse.mean()) >= DARKEST_GLASS
        ):
            run.background(tile.row, tile.column)
        else:
            run.unreadable(tile)

    def _finish(self, slide: Slide, run: SlideRun) -> SlideOutcome:
        self._method.integrate(run)
        tumor_pixels = int(run.tumor_pixels[is_tumor(run.tile_class)].sum())
        unreadable_pixels = pixels_that_may_be_tumor(
            run.grid, run.tile_class, self._rules.tumor_fraction
        )
        unread = UnreadTiles(int((run.tile_class == TileClass.UNREADABLE).sum()), unreadable_pixels)
        pixel_mm2 = run.grid.pixel_mm2
        quality = run.quality.finish(
            self._rules.quality,
            tile_mm2=run.grid.tile_size**2 * pixel_mm2,
            slide_mm2=run.grid.width * run.grid.height * pixel_mm2,
            tumor_mm2=tumor_pixels * pixel_mm2,
            artefact_tumor_percent=run.artefact_tumor_percent,
        )
        scale = find_scale_doubt(slide.metadata, self._rules.um_per_px)
        call = self._method.call(run, SlideFindings(quality, unread, scale), self._rules)
        return SlideOutcome(
            metadata=with_label_barcode(slide),
            grid=run.grid,
            score=call.score,
            tile_class=run.tile_class,
            tumor_pixels=run.tumor_pixels,
            p_folds=run.p_folds,
            p_strong=run.p_strong,
            attention=call.attention,
            overview=run.overview,
            unreadable_pixels=unreadable_pixels,
            unreadable_reason=run.unreadable_reason,
            has_io_error=run.has_io_error,
            unread_could_change_call=call.unread_could_change_call,
            quality=quality,
            scale=scale,
            tiles_decided_early=call.tiles_decided_early,
        )
