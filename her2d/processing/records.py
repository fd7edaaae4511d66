"""Convert a scored slide to the records that are stored and to the input of its heatmap."""

import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from her2d.method import MethodName
from her2d.pipeline.outcome import SlideOutcome, TileClass, is_tissue
from her2d.pipeline.software import Software
from her2d.processing.processor import ScoredSlide
from her2d.results.heatmap import HeatmapData, heading
from her2d.results.records import (
    RunRecord,
    SlideRecord,
    StepTiming,
    TileTable,
)
from her2d.slides.metadata import barcodes_differ
from her2d.system.clock import now


class RunClock:
    """Records when a run was queued and started, and how long its steps took."""

    def __init__(self, queued_at: str | None) -> None:
        self.queued_at = queued_at
        self.started_at = now()
        self._began = self._since = time.monotonic()
        self._timings: list[StepTiming] = []

    @property
    def elapsed_s(self) -> float:
        return round(time.monotonic() - self._began, 3)

    @property
    def timings(self) -> tuple[StepTiming, ...]:
        return tuple(self._timings)

    def step_ended(self, step: str) -> None:
        """Record the time since the previous step ended."""
        at = time.monotonic()
        self.step_took(step, at - self._since)
        self._since = at

    def step_took(self, step: str, seconds: float) -> None:
        """Record a step that took so long, beside another one."""
        self._timings.append(StepTiming(step, round(seconds, 3)))
        self._since = time.monotonic()


def slide_record(scored: ScoredSlide, digest: str) -> SlideRecord:
    metadata, stamp = scored.outcome.metadata, scored.stamp
    return SlideRecord(
        content_hash=digest,
        file_name=scored.path.name,
        path=str(scored.path),
        barcode=metadata.barcode,
        vendor=metadata.vendor,
        width=metadata.width,
        height=metadata.height,
        magnification=metadata.magnification,
        mpp=metadata.mpp,
        barcode_source=metadata.barcode_source,
        label_barcode=metadata.label_barcode,
        barcode_mismatch=barcodes_differ(metadata.barcode, metadata.label_barcode),
        magnification_source=metadata.magnification_source,
        size=stamp.size,
        mtime_ns=stamp.mtime_ns,
        ctime_ns=stamp.ctime_ns,
        first_block=scored.first_block,
    )


def run_record(
    outcome: SlideOutcome, clock: RunClock, heatmap: Path, software: Software
) -> RunRecord:
    """Return the record of a run that ends now."""
    grid = outcome.grid
    return RunRecord(
        score=outcome.score,
        quality=outcome.quality,
        tiles_total=grid.rows * grid.columns,
        tiles_tissue=int(is_tissue(outcome.tile_class).sum()),
        tiles_unreadable=outcome.count(TileClass.UNREADABLE),
        unreadable_reason=outcome.unreadable_reason,
        grid_columns=grid.columns,
        grid_rows=grid.rows,
        um_per_px=grid.um_per_px,
        level0_downsample=grid.level0_downsample,
        software=software,
        heatmap_path=str(heatmap),
        queued_at=clock.queued_at,
        started_at=clock.started_at,
        finished_at=now(),
        elapsed_s=clock.elapsed_s,
        focal_plane=outcome.metadata.focal_plane,
        unread_pictures=outcome.metadata.unread_pictures,
        tiles_decided_early=outcome.tiles_decided_early,
        decoding=outcome.metadata.decoding,
        scale_remark=None if outcome.scale is None else outcome.scale.remark,
    )


def heatmap_data(name: str, outcome: SlideOutcome) -> HeatmapData:
    """Return the input of the slide's heatmap."""
    grid, overview = outcome.grid, outcome.overview
    reduction = grid.tile_size / overview.tile_px
    lines = heading(name, outcome.score)
    return HeatmapData(
        rgb=overview.rgb,
        tumor=overview.tumor,
        tile_px=overview.tile_px,
        p_strong=outcome.p_strong,
        attention=_drawn_attention(outcome),
        strong=outcome.tile_class == TileClass.STRONG,
        unreadable=outcome.tile_class == TileClass.UNREADABLE,
        um_per_px=grid.um_per_px * reduction,
        width=max(1, round(grid.width / reduction)),
        height=max(1, round(grid.height / reduction)),
        title=lines.title,
        subtitle=lines.subtitle,
        note=lines.note,
    )


def _drawn_attention(outcome: SlideOutcome) -> NDArray[np.float32] | None:
    """Return the attention to draw; None for a method that classifies tiles."""
    if outcome.score.method is not MethodName.MIL or outcome.attention is not None:
        return outcome.attention
    return np.zeros(outcome.tile_class.shape, np.float32)


def tile_table(outcome: SlideOutcome) -> TileTable:
    """Return the outcome's tiles without background, row by row."""
    row, column = np.nonzero(outcome.tile_class != TileClass.BACKGROUND)
    tile_classes = outcome.tile_class[row, column]
    return TileTable(
        row=row,
        column=column,
        tile_class=tuple(TileClass(tile_class).name.lower() for tile_class in tile_classes),
        tumor_pixels=outcome.tumor_pixels[row, column],
        p_strong=outcome.p_strong[row, column],
        p_folds=outcome.p_folds[row, column],
        attention=None if outcome.attention is None else outcome.attention[row, column],
    )
