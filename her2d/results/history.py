"""Read a slide's runs, and the tiles and timings of one run."""

from dataclasses import dataclass

from sqlite_utils import Database

from her2d.results.records import StepTiming


@dataclass(frozen=True, slots=True)
class PastRun:
    """A summary of one of a slide's runs; `calibration` is the digest of that of its bundle."""

    run_id: int
    finished_at: str
    bundle: str
    her2_status: str
    high_expression_percent: float | None
    ci_low: float | None
    ci_high: float | None
    backend: str
    software_version: str
    elapsed_s: float
    send_to_ihc: bool | None
    calibration: str | None


@dataclass(frozen=True, slots=True)
class TileClassSummary:
    """The tiles of one class in a run; `mean_p_strong` is None outside tumour."""

    tile_class: str
    tiles: int
    tumor_pixels: int
    mean_p_strong: float | None


def runs_of_slide(db: Database, slide_id: int) -> list[PastRun]:
    """Read every run of a slide, newest first."""
    rows = db.query(
        "select runs.id as run_id, runs.finished_at,"
        " bundles.name || ' ' || bundles.version as bundle, runs.her2_status,"
        " runs.high_expression_percent, runs.ci_low, runs.ci_high, runs.backend,"
        " runs.software_version, runs.elapsed_s, runs.send_to_ihc, runs.calibration"
        " from runs join bundles on bundles.id = runs.bundle_id"
        " where runs.slide_id = ? order by runs.id desc",
        [slide_id],
    )
    return [PastRun(**{**row, "send_to_ihc": _flag(row["send_to_ihc"])}) for row in rows]


def _flag(value: int | None) -> bool | None:
    return None if value is None else bool(value)


def tile_summary(db: Database, run_id: int) -> list[TileClassSummary]:
    """Count the tiles of a run by class, without background."""
    rows = db.query(
        "select tile_class, count(*) as tiles, sum(tumor_pixels) as tumor_pixels,"
        " avg(p_strong) as mean_p_strong from tiles where run_id = ?"
        " group by tile_class order by tile_class",
        [run_id],
    )
    return [TileClassSummary(**row) for row in rows]


def timings_of_run(db: Database, run_id: int) -> list[StepTiming]:
    """Read the duration of each step of a run, longest first; empty if none were recorded."""
    rows = db.query(
        "select step, seconds from run_timings where run_id = ? order by seconds desc", [run_id]
    )
    return [StepTiming(**row) for row in rows]
