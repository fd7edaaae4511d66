"""Write a scored slide's heatmap to the disk and its rows to the database."""

from dataclasses import dataclass
from pathlib import Path

from sqlite_utils import Database

from her2d.bundle.loading import Bundle
from her2d.pipeline.outcome import SlideOutcome
from her2d.pipeline.software import Software
from her2d.processing.errors import ResultsUnwritableError
from her2d.processing.processor import ScoredSlide
from her2d.processing.records import (
    RunClock,
    heatmap_data,
    run_record,
    slide_record,
    tile_table,
)
from her2d.results.heatmap import heatmap_path, render_heatmap, write_png
from her2d.results.pictures import Pictures, write_pictures
from her2d.results.records import (
    BundleRecord,
    CalibrationRecord,
    PictureRecord,
    RunRecord,
    SlideRecord,
    StepTiming,
    TileTable,
)
from her2d.results.store import record_run


@dataclass(frozen=True, slots=True)
class CompleteRun:
    """The records of a run for the database. Its pictures are already on the disk."""

    slide: SlideRecord
    run: RunRecord
    tiles: TileTable
    pictures: PictureRecord
    timings: tuple[StepTiming, ...]


class Recorder:
    """Records the runs of one bundle by the same software. Safe to use from several threads.

    Args:
        bundle, software: which the runs used.
        heatmaps: the folder for pictures.
        actor: the user and the command if a person has the slides scored; None for the daemon.
    """

    def __init__(
        self, bundle: Bundle, software: Software, heatmaps: Path, actor: str | None = None
    ) -> None:
        self._bundle = bundle
        self._software = software
        self._heatmaps = heatmaps
        self._actor = actor

    def draw(self, scored: ScoredSlide, content_hash: str, clock: RunClock) -> CompleteRun:
        """Write the slide's pictures and return the run, which ends now.

        Raises ResultsUnwritableError.
        """
        clock.step_took("tiles", scored.tiles_s)
        outcome = scored.outcome
        heatmap = heatmap_path(self._heatmaps, scored.path, content_hash, self._bundle.digest)
        pictures = _draw(heatmap, scored.path.name, outcome)
        clock.step_ended("pictures")
        return CompleteRun(
            slide_record(scored, content_hash),
            run_record(outcome, clock, heatmap, self._software),
            tile_table(outcome),
            pictures,
            clock.timings,
        )

    def record(self, db: Database, complete: CompleteRun, job_id: int | None = None) -> int:
        """Store the run and return its id. With `job_id`, the same transaction ends the job.

        Raises sqlite3.Error; nothing is then stored.
        """
        return record_run(
            db,
            slide=complete.slide,
            bundle=_bundle_record(self._bundle),
            run=complete.run,
            tiles=complete.tiles,
            pictures=complete.pictures,
            timings=complete.timings,
            job_id=job_id,
            actor=self._actor,
        )


def _bundle_record(bundle: Bundle) -> BundleRecord:
    manifest, signed = bundle.manifest, bundle.calibration
    return BundleRecord(
        bundle.digest,
        manifest.name,
        manifest.version,
        manifest.model_dump_json(),
        None if signed is None else CalibrationRecord(signed.digest, signed.text),
    )


def _draw(heatmap: Path, name: str, outcome: SlideOutcome) -> PictureRecord:
    """Write the heatmap, and the pictures that it is drawn from beside it."""
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
