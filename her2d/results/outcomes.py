"""IHC and FISH results of slides: store them, list them, and put them beside a bundle's calls.

Outcomes are added and never changed. The newest of a slide is its current one.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sqlite_utils import Database

from her2d.calibration.agreement import CalledSlides
from her2d.calibration.outcome import Fish, Her2Outcome, Ihc, her2_outcome
from her2d.results.outcome_csv import BadRow, OutcomeRow, OutcomesError, read_outcomes
from her2d.results.queries import AmbiguousSlide, SlideNotFound, find_slide
from her2d.system.clock import now
from her2d.system.write_transaction import write_transaction

_VALUES = ("ihc", "fish", "ihc_percent", "read_on", "read_by", "patient")


@dataclass(frozen=True, slots=True)
class ResolvedOutcome:
    """A row of a file, with the slide that it means."""

    slide_id: int
    row: OutcomeRow


@dataclass(frozen=True, slots=True)
class ImportCounts:
    """How many slides got their first outcome, got another one, or had the same already."""

    added: int
    replaced: int
    unchanged: int


@dataclass(frozen=True, slots=True)
class StoredOutcome:
    """An outcome in the database, with the slide's current call.

    Attributes:
        imported_by: who imported it.
        source: name of the file that it was in.
        is_current: whether it is the slide's newest one.
        her2_status, high_expression_percent: of the slide's current run.
    """

    slide_id: int
    file_name: str
    barcode: str | None
    ihc: str
    fish: str | None
    ihc_percent: float | None
    her2_outcome: str
    patient: str | None
    read_on: str | None
    read_by: str | None
    imported_at: str
    imported_by: str
    source: str
    is_current: bool
    her2_status: str
    high_expression_percent: float | None


@dataclass(frozen=True, slots=True)
class KnownOutcome:
    """What a comparison with a bundle's calls needs of an outcome."""

    slide_id: int
    her2_outcome: Her2Outcome
    ihc_percent: float | None
    patient: str | None


@dataclass(frozen=True, slots=True)
class ComparedSlides:
    """Outcomes beside the calls of one bundle.

    Attributes:
        called: the slides with a call and an outcome that is not equivocal.
        equivocal: number of slides that the bundle has called, of IHC 2+ without FISH.
        without_call: number of slides to which the bundle gives no call.
        not_scored: number of slides that the bundle has not scored.
        finished: when the called slides were scored, the first and the last; None without any.
    """

    called: CalledSlides
    equivocal: int
    without_call: int
    not_scored: int
    finished: tuple[str, str] | None


def read_outcome_file(db: Database, path: Path) -> list[ResolvedOutcome]:
    """Read a CSV of outcomes and find the slide of each row.

    Raises:
        OutcomesError: the file cannot be read, or some of its rows cannot be used; `problems` has
            a sentence for each of them.
    """
    rows, bad = read_outcomes(path)
    total = len(rows) + len(bad)
    found: list[ResolvedOutcome] = []
    first_line: dict[int, int] = {}
    for row in rows:
        try:
            result = find_slide(db, row.slide)
        except (SlideNotFound, AmbiguousSlide) as error:
            bad.append(BadRow(row.line, str(error)))
            continue
        if result.slide_id in first_line:
            bad.append(
                BadRow(
                    row.line,
                    f"{row.slide!r} is the slide of line {first_line[result.slide_id]}, too. Give"
                    " one row for each slide.",
                )
            )
            continue
        first_line[result.slide_id] = row.line
        found.append(ResolvedOutcome(result.slide_id, row))
    if bad:
        problems = tuple(str(each) for each in sorted(bad, key=lambda each: each.line))
        raise OutcomesError(
            f"{len(bad)} of {total} rows of {path.name} cannot be used, so none was.", problems
        )
    return found


def import_outcomes(
    db: Database, outcomes: Sequence[ResolvedOutcome], *, source: str, actor: str
) -> ImportCounts:
    """Store outcomes in one transaction. One that says what the slide's current one says is not.

    Args:
        db: the database.
        outcomes: what `read_outcome_file` returned.
        source: name of the file.
        actor: who imports it.

    Raises:
        sqlite3.Error: nothing was stored.
    """
    at = now()
    added = replaced = unchanged = 0
    with write_transaction(db):
        for outcome in outcomes:
            values = _values(outcome.row)
            current = _current(db, outcome.slide_id)
            if current == values:
                unchanged += 1
                continue
            added += current is None
            replaced += current is not None
            db.table("outcomes").insert(
                {
                    "slide_id": outcome.slide_id,
                    **values,
                    "imported_at": at,
                    "imported_by": actor,
                    "source": source,
                }
            )
    return ImportCounts(added, replaced, unchanged)


def _values(row: OutcomeRow) -> dict[str, Any]:
    values = {name: getattr(row, name) for name in _VALUES}
    return {name: str(v) if isinstance(v, Ihc | Fish) else v for name, v in values.items()}


def _current(db: Database, slide_id: int) -> dict[str, Any] | None:
    rows = db.query(
        f"select {', '.join(_VALUES)} from outcomes where slide_id = ? and is_current = 1",
        [slide_id],
    )
    return next(rows, None)


def patient_of(db: Database, slide_id: int) -> str | None:
    """Return the patient that the slide's current outcome names; None if none does."""
    current = _current(db, slide_id)
    return None if current is None else current["patient"]


def list_outcomes(
    db: Database, *, slide_id: int | None = None, history: bool = False
) -> list[StoredOutcome]:
    """Read outcomes, the newest first.

    Args:
        db: the database.
        slide_id: only that slide's.
        history: replaced outcomes, too.
    """
    rows = db.query(
        "select outcomes.slide_id, file_name, barcode, outcomes.ihc, outcomes.fish,"
        " outcomes.ihc_percent, outcomes.her2_outcome, patient, read_on, read_by, imported_at,"
        " imported_by, source, outcomes.is_current, her2_status, high_expression_percent"
        " from outcomes join slides on slides.id = outcomes.slide_id"
        " join runs on runs.slide_id = slides.id and runs.is_current = 1"
        " where (:slide is null or outcomes.slide_id = :slide)"
        " and (:history or outcomes.is_current = 1) order by outcomes.id desc",
        {"slide": slide_id, "history": history},
    )
    return [StoredOutcome(**{**row, "is_current": bool(row["is_current"])}) for row in rows]


def known_outcomes(db: Database, *, newest: int | None = None) -> list[KnownOutcome]:
    """Read the current outcomes, or only the newest of them."""
    rows = db.query(
        "select slide_id, her2_outcome, ihc_percent, patient from outcomes where is_current = 1"
        " order by id desc limit ?",
        [-1 if newest is None else newest],
    )
    return [
        KnownOutcome(
            row["slide_id"], Her2Outcome(row["her2_outcome"]), row["ihc_percent"], row["patient"]
        )
        for row in rows
    ]


def outcomes_of_file(outcomes: Sequence[ResolvedOutcome]) -> list[KnownOutcome]:
    """Return the outcomes of a file as those in the database are returned."""
    return [
        KnownOutcome(
            each.slide_id,
            her2_outcome(each.row.ihc, each.row.fish),
            each.row.ihc_percent,
            each.row.patient,
        )
        for each in outcomes
    ]


def count_outcomes(db: Database) -> Mapping[Her2Outcome, int]:
    """Count the slides by their current outcome."""
    rows = db.execute("select her2_outcome, number from outcome_counts").fetchall()
    counts = dict.fromkeys(Her2Outcome, 0)
    return counts | {Her2Outcome(outcome): number for outcome, number in rows}


def compare_with_calls(
    db: Database, outcomes: Sequence[KnownOutcome], bundle_digest: str
) -> ComparedSlides:
    """Put outcomes beside the newest call of one bundle for each slide."""
    by_slide = {each.slide_id: each for each in outcomes}
    runs = list(
        db.query(
            "select runs.slide_id, runs.her2_status, runs.high_expression_percent, runs.ci_low,"
            " runs.ci_high, runs.threshold_percent, runs.finished_at"
            " from json_each(:slides) as wanted join runs on runs.id = (select max(id) from runs"
            " where slide_id = wanted.value"
            " and bundle_id = (select id from bundles where digest = :digest))"
            " order by runs.slide_id",
            {"slides": json.dumps(list(by_slide)), "digest": bundle_digest},
        )
    )
    with_call = [run for run in runs if run["her2_status"] != "indeterminate"]
    decided = [
        run
        for run in with_call
        if by_slide[run["slide_id"]].her2_outcome is not Her2Outcome.EQUIVOCAL
    ]
    finished = sorted(run["finished_at"] for run in decided)
    return ComparedSlides(
        called=_called_slides(decided, [by_slide[run["slide_id"]] for run in decided]),
        equivocal=len(with_call) - len(decided),
        without_call=len(runs) - len(with_call),
        not_scored=len(by_slide) - len(runs),
        finished=(finished[0], finished[-1]) if finished else None,
    )


def _called_slides(
    runs: Sequence[Mapping[str, Any]], outcomes: Sequence[KnownOutcome]
) -> CalledSlides:
    def shares(name: str) -> Any:
        return np.array([run[name] for run in runs], np.float64) / 100

    return CalledSlides(
        patient=np.array([_patient(outcome) for outcome in outcomes], np.str_),
        called=np.array([run["her2_status"] == "positive" for run in runs], np.bool_),
        positive=np.array([o.her2_outcome is Her2Outcome.POSITIVE for o in outcomes], np.bool_),
        p=shares("high_expression_percent"),
        low=shares("ci_low"),
        high=shares("ci_high"),
        threshold=shares("threshold_percent"),
        ihc_share=np.array([_share(outcome.ihc_percent) for outcome in outcomes], np.float64),
    )


def _patient(outcome: KnownOutcome) -> str:
    """Return the patient's name; a slide without one is taken for the only one of its patient."""
    if outcome.patient is None:
        return f"slide {outcome.slide_id}"
    return f"patient {outcome.patient}"


def _share(percent: float | None) -> float:
    return float("nan") if percent is None else percent / 100
