"""List current results: filtered, sorted and by pages."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from sqlite_utils import Database

from her2d.pipeline.evaluability import ReasonCode
from her2d.results.records import QualityFlag, SlideResult
from her2d.system.clock import as_text

_FLAG_COLUMNS = {
    QualityFlag.BLURRED: "blurred",
    QualityFlag.FOLDED: "folded",
    QualityFlag.PEN_MARKED: "pen_marked",
    QualityFlag.STAIN_OUTLIER: "stain_outlier",
}


class SortKey(StrEnum):
    """The keys by which results can be sorted."""

    FINISHED = "finished"
    PERCENT = "percent"
    NAME = "name"
    MARGIN = "margin"


# Written as in the index `runs_current_by_margin`.
_MARGIN = "abs(high_expression_percent - threshold_percent)"

# Each ends with the id, so that pages neither repeat nor miss a slide. Slides without P come last.
_ORDERS = {
    (SortKey.FINISHED, True): "finished_at desc, run_id desc",
    (SortKey.FINISHED, False): "finished_at, run_id",
    (SortKey.PERCENT, True): "high_expression_percent desc, run_id desc",
    (SortKey.PERCENT, False): "high_expression_percent nulls last, run_id",
    (SortKey.NAME, True): "file_name desc, slide_id desc",
    (SortKey.NAME, False): "file_name, slide_id",
    (SortKey.MARGIN, True): f"{_MARGIN} desc, run_id desc",
    (SortKey.MARGIN, False): f"{_MARGIN} nulls last, run_id",
}


@dataclass(frozen=True, slots=True)
class Order:
    """A sort order, by default newest first.

    `margin` is the distance of P from the threshold of the bundle that scored the slide.
    """

    key: SortKey = SortKey.FINISHED
    descending: bool = True


@dataclass(frozen=True, slots=True)
class ResultFilter:
    """A filter of current results; a value of None does not filter.

    Attributes:
        status: `positive`, `negative` or `indeterminate`.
        reason_code: why a slide has no call.
        borderline: whether the interval contains the threshold.
        send_to_ihc: whether the laboratory's calibration sends the slide to IHC. Slides that were
            scored without a calibration are neither.
        since, until: UTC; finished at or after `since` and before `until`.
        bundle: a bundle's name, or name and version separated by a space.
        text: part of the file name, of the barcode or of the label's, in upper or lower case. In
            one or two characters, that holds for the letters A to Z only.
        flags: quality flags that must all be set.
    """

    status: str | None = None
    reason_code: ReasonCode | None = None
    borderline: bool | None = None
    send_to_ihc: bool | None = None
    since: datetime | None = None
    until: datetime | None = None
    bundle: str | None = None
    text: str | None = None
    flags: frozenset[QualityFlag] = field(default_factory=frozenset)


_EVERYTHING = ResultFilter()

# Whole rows join five tables, so rows are chosen among these columns first.
_COLUMNS = (
    "runs.id as run_id, runs.slide_id, runs.bundle_id, runs.her2_status, runs.reason_code,"
    " runs.borderline, runs.send_to_ihc, runs.finished_at, runs.high_expression_percent,"
    " runs.threshold_percent"
)
_CURRENT = f"(select {_COLUMNS} from runs where runs.is_current = 1)"
# A cross join makes SQLite read the slides first, in the order of their names.
_CURRENT_BY_NAME = (
    f"(select {_COLUMNS}, slides.file_name from slides"
    " cross join runs on runs.slide_id = slides.id and runs.is_current = 1)"
)
# The index of parts of names has parts of three characters.
_SHORTEST_INDEXED = 3
# Where more slides have a text in their names, the list is read in its order and each name looked
# at, until a page is full; to gather them all would take longer.
_COMMON = 20_000
_NEWEST_FIRST = Order()


def list_results(
    db: Database,
    wanted: ResultFilter = _EVERYTHING,
    *,
    order: Order = _NEWEST_FIRST,
    limit: int | None = None,
    offset: int = 0,
) -> list[SlideResult]:
    """Read a page of the current results.

    Args:
        db: the database.
        wanted: the filter.
        order: how to sort.
        limit: largest number of results; None is all.
        offset: number of results to skip.
    """
    by = _ORDERS[order.key, order.descending]
    current = _CURRENT_BY_NAME if order.key is SortKey.NAME else _CURRENT
    condition = _condition(wanted, _page_named(db, wanted))
    rows = db.query(
        f"select * from slide_results where run_id in (select run_id from {current}"
        f" where {condition} order by {by} limit :limit offset :offset) order by {by}",
        {**_values(wanted), "limit": -1 if limit is None else limit, "offset": offset},
    )
    return [SlideResult.model_validate(row) for row in rows]


def results_after(
    db: Database, wanted: ResultFilter, slide_id: int, limit: int
) -> list[SlideResult]:
    """Read the next results in the order of their slides' ids, after that of `slide_id`.

    A slide that is scored again while somebody reads all of them is neither missed nor repeated.
    """
    condition = _condition(wanted, _page_named(db, wanted))
    rows = db.query(
        f"select * from slide_results where run_id in (select run_id from {_CURRENT}"
        f" where slide_id > :after and {condition} order by slide_id limit :limit)"
        " order by slide_id",
        {**_values(wanted), "after": slide_id, "limit": limit},
    )
    return [SlideResult.model_validate(row) for row in rows]


def count_results(db: Database, wanted: ResultFilter = _EVERYTHING) -> int:
    """Count the results that `list_results` would return without a limit."""
    condition = _condition(wanted, _named(wanted))
    if wanted.text is not None and wanted == ResultFilter(text=wanted.text):
        # Each slide has one current result, as it is stored with its first.
        counted, number, condition = f"({_slides_named(wanted.text)})", "count(*)", "1"
    elif _is_of_kinds(wanted):
        counted, number = "result_counts", "total(number)"
    else:
        counted, number = _CURRENT, "count(*)"
    rows = db.query(f"select {number} as n from {counted} where {condition}", _values(wanted))
    return int(next(rows)["n"])


def _is_of_kinds(wanted: ResultFilter) -> bool:
    """Return whether `result_counts` has the columns that the filter is of."""
    return (wanted.since, wanted.until, wanted.text, wanted.flags) == (
        None,
        None,
        None,
        frozenset(),
    )


def _condition(wanted: ResultFilter, named: str) -> str:
    """Build the condition from fixed phrases, so that SQLite can use an index; values are bound.

    Args:
        wanted: the filter.
        named: the condition of its text.
    """
    phrases = [named]
    if wanted.status is not None:
        phrases.append("her2_status = :status")
    if wanted.reason_code is not None:
        phrases.append("reason_code = :reason_code")
    if wanted.borderline is not None:
        phrases.append("borderline = 1" if wanted.borderline else "borderline = 0")
    if wanted.send_to_ihc is not None:
        phrases.append("send_to_ihc = 1" if wanted.send_to_ihc else "send_to_ihc = 0")
    if wanted.since is not None:
        phrases.append("finished_at >= :since")
    if wanted.until is not None:
        phrases.append("finished_at < :until")
    if wanted.bundle is not None:
        phrases.append(
            "bundle_id in (select id from bundles"
            " where name = :bundle or name || ' ' || version = :bundle)"
        )
    phrases += [f"{_flagged(flag)}" for flag in sorted(wanted.flags)]
    return " and ".join(phrases)


_HAS_TEXT = " or ".join(
    f"{name} like :text escape '\\'" for name in ("file_name", "barcode", "label_barcode")
)


def _slides_named(text: str) -> str:
    """Select ids of slides that have `text` in a name, by the index of parts of names if it can."""
    if "\0" in text:  # where SQLite takes the pattern to end
        return "select id from slides where false"
    if len(text) < _SHORTEST_INDEXED:
        return f"select id from slides where {_HAS_TEXT}"
    return "select rowid from slide_names where slide_names match :phrase"


def _named(wanted: ResultFilter) -> str:
    """Return the condition of a filter's text."""
    return "1" if wanted.text is None else f"slide_id in ({_slides_named(wanted.text)})"


def _page_named(db: Database, wanted: ResultFilter) -> str:
    """Return the condition of a filter's text with which a page of results is read soonest."""
    # What the index finds in upper and lower case, beyond A to Z, a look at each name does not.
    if wanted.text is None or not wanted.text.isascii():
        return _named(wanted)
    some = f"select 1 from ({_slides_named(wanted.text)}) limit {_COMMON + 1}"
    found = db.query(f"select count(*) as n from ({some})", _values(wanted))
    if next(found)["n"] <= _COMMON:
        return _named(wanted)
    return f"exists (select 1 from slides where slides.id = slide_id and ({_HAS_TEXT}))"


def _flagged(flag: QualityFlag) -> str:
    if flag is QualityFlag.BARCODE_MISMATCH:
        return "slide_id in (select id from slides where barcode_mismatch = 1)"
    if flag is QualityFlag.OFF_SCALE:
        return "run_id in (select id from runs where is_current = 1 and scale_remark is not null)"
    return f"run_id in (select run_id from run_quality where {_FLAG_COLUMNS[flag]} = 1)"


def _values(wanted: ResultFilter) -> dict[str, str | None]:
    return {
        "status": wanted.status,
        "reason_code": wanted.reason_code,
        "since": _timestamp(wanted.since),
        "until": _timestamp(wanted.until),
        "bundle": wanted.bundle,
        "text": None if wanted.text is None else f"%{_literal(wanted.text)}%",
        "phrase": None if wanted.text is None else _phrase(wanted.text),
    }


def _timestamp(moment: datetime | None) -> str | None:
    return None if moment is None else as_text(moment)


def _literal(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _phrase(text: str) -> str:
    """Quote text for FTS5, https://www.sqlite.org/fts5.html section 3.1."""
    doubled = text.replace('"', '""')
    return f'"{doubled}"'
