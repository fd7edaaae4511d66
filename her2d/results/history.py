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
    positive_probability: float | None
    probability_threshold: float | None
    ci_low: float | None
    ci_high: float | None
    backend: str
    software_version: str
    elapsed_s: float
    send_to_ihc: bool | None
    calibration: str | None


@dataclass(frozen=True, slots=True)
class TileClassSummary:
    """The tiles of one class in a run.

    `mean_p_strong` is None outside tumour, and where it is not known of all tiles.
    """

    tile_class: str
    tiles: int
    tumor_pixels: int
    mean_p_strong: float | None


@dataclass(frozen=True, slots=True)
class Act:
    """What a person did.

    Attributes:
        at: UTC, ISO-8601.
        actor: the user and the command.
        act: the event, such as `queued`.
        job_id, slide_id, file_name: what it was done to; None for the whole database.
        detail: more about it.
    """

    at: str
    actor: str
    act: str
    job_id: int | None
    slide_id: int | None
    file_name: str | None
    detail: str | None


_ACTS = """
    select events.at, events.actor, events.name as act, events.job_id,
        coalesce(events.slide_id, jobs.slide_id) as slide_id,
        coalesce(jobs.file_name, slides.file_name) as file_name, events.detail
    from events left join jobs on jobs.id = events.job_id
    left join slides on slides.id = events.slide_id
    where events.actor is not null
"""


def acts_of_persons(db: Database, limit: int) -> list[Act]:
    """Read the newest acts of persons, newest first."""
    rows = db.query(f"{_ACTS} order by events.id desc limit ?", [limit])
    return [Act(**row) for row in rows]


def acts_on_slide(db: Database, slide_id: int) -> list[Act]:
    """Read what persons did to a slide and its jobs, newest first."""
    rows = db.query(
        f"{_ACTS} and (events.slide_id = :slide"
        " or events.job_id in (select id from jobs where slide_id = :slide))"
        " order by events.id desc",
        {"slide": slide_id},
    )
    return [Act(**row) for row in rows]


def runs_of_slide(db: Database, slide_id: int) -> list[PastRun]:
    """Read every run of a slide, newest first."""
    rows = db.query(
        "select runs.id as run_id, runs.finished_at,"
        " bundles.name || ' ' || bundles.version as bundle, runs.her2_status,"
        " runs.high_expression_percent, runs.positive_probability, runs.probability_threshold,"
        " runs.ci_low, runs.ci_high, runs.backend,"
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
        " iif(count(p_strong) = count(*), avg(p_strong), null) as mean_p_strong"
        " from tiles where run_id = ? group by tile_class order by tile_class",
        [run_id],
    )
    return [TileClassSummary(**row) for row in rows]


def timings_of_run(db: Database, run_id: int) -> list[StepTiming]:
    """Read the duration of each step of a run, longest first; empty if none were recorded."""
    rows = db.query(
        "select step, seconds from run_timings where run_id = ? order by seconds desc", [run_id]
    )
    return [StepTiming(**row) for row in rows]
