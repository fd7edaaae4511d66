"""The contents of the pages. The templates only lay them out."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from urllib.parse import urlencode

from sqlite_utils import Database

from her2d.browse.asgi import BadParameter
from her2d.errors import Her2dError
from her2d.pipeline.evaluability import ReasonCode
from her2d.pipeline.scoring import Her2Status
from her2d.queue.store import JobQueue
from her2d.results.export.report import quality_rows
from her2d.results.history import PastRun, runs_of_slide, timings_of_run
from her2d.results.listing import Order, ResultFilter, SortKey, count_results, list_results
from her2d.results.queries import find_slide
from her2d.results.records import QualityFlag, SlideResult, StepTiming
from her2d.system.clock import local_time
from her2d.system.text import printable

PAGE = 60
PARAMETERS = frozenset({"text", "status", "flag", "reason", "sort", "page"})
"""What the list's address can have."""

_LONGEST_TEXT = 200
_LAST_PAGE = 999_999
_QUICK_PAGES = 10
_FAILURES = 20
_STATUSES = ("positive", "negative", "indeterminate")
_CALL_FLAGS = {"borderline": "borderline", "send-to-ihc": "send to IHC"}
_TICKS = (0, 10, 25, 50, 100)
_LEAST_GAP = 8


@dataclass(frozen=True, slots=True)
class Gauge:
    """The share of HER2-high tumour and its interval as places on a line, in percent of its length.

    Places are proportional to the square root of the share, so that 0 to 10 % takes a third of it.
    The threshold is that of the bundle that scored the slide.
    """

    value: float | None
    low: float | None
    high: float | None
    threshold: float
    threshold_percent: float
    ticks: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Card:
    """One slide of the list; without a gauge if its bundle knows no share of HER2-high tumour."""

    result: SlideResult
    gauge: Gauge | None


@dataclass(frozen=True, slots=True)
class Choice:
    """A link that sets a filter or the order."""

    label: str
    url: str
    chosen: bool


@dataclass(frozen=True, slots=True)
class FailedFile:
    """A file that could not be processed, and the reason that its job has."""

    job_id: int
    file_name: str
    reason: str | None
    finished_at: str | None


@dataclass(frozen=True, slots=True)
class Failures:
    """Files that could not be processed: their number, and the newest of them."""

    total: int
    files: tuple[FailedFile, ...]


@dataclass(frozen=True, slots=True)
class SlideList:
    """The list page.

    `failures` are only on its first page, and only without a filter; `reasons` only where the list
    is of slides without a call."""

    cards: tuple[Card, ...]
    matching: int
    text: str
    statuses: tuple[Choice, ...]
    concerns: tuple[Choice, ...]
    reasons: tuple[Choice, ...]
    orders: tuple[Choice, ...]
    failures: Failures
    previous: str | None
    next: str | None

    local_time = staticmethod(local_time)


@dataclass(frozen=True, slots=True)
class SlidePage:
    """The page of a slide; `newer` and `older` are ids of the slides next to it in time."""

    result: SlideResult
    gauge: Gauge | None
    quality: tuple[tuple[str, str], ...]
    runs: tuple[PastRun, ...]
    timings: tuple[StepTiming, ...]
    newer: int | None
    older: int | None

    local_time = staticmethod(local_time)


@dataclass(frozen=True, slots=True)
class Viewer:
    """A run's facts for the script of the slide page.

    Attributes:
        base: address of the run's pictures.
        width, height: level-0 pixels.
        tile_side: level-0 pixels along a tile of the 4x grid.
        um_per_px: resolution of level 0; None where the file does not state it, so that no bar
            shows a length that may be wrong.
        tile, max_level: tile side and highest level of the deep zoom.
        scan_missing, pictures_missing, tiles_pruned: a sentence that says why they are missing,
            else None.
    """

    base: str
    width: int
    height: int
    tile_side: float
    um_per_px: float | None
    tile: int
    max_level: int
    scan_missing: str | None
    pictures_missing: str | None
    tiles_pruned: str | None

    def as_json(self) -> str:
        """Return JSON for a script element; "<" is escaped, so that no file name can end it."""
        return json.dumps(asdict(self)).replace("<", "\\u003c")


@dataclass(frozen=True, slots=True)
class ListQuery:
    """The parameters in the list's address."""

    text: str = ""
    status: str = ""
    flag: str = ""
    reason: str = ""
    sort: SortKey = SortKey.FINISHED
    page: int = 1

    @classmethod
    def of(cls, given: Mapping[str, str]) -> "ListQuery":
        """Read the parameters of an address; one that is absent or empty has its default.

        Raises:
            BadParameter: one has a value that it cannot have.
        """

        def one_of(name: str, values: Iterable[str], default: str = "") -> str:
            value = given.get(name) or default
            known = sorted(values)
            if value and value not in known:
                raise BadParameter(f"The parameter {name} can be {', '.join(known)}.")
            return value

        text = given.get("text", "")
        if len(text) > _LONGEST_TEXT or printable(text) != text:
            raise BadParameter(
                f"The parameter text can have {_LONGEST_TEXT} characters, all of them printable."
            )
        return cls(
            text=text,
            status=one_of("status", _STATUSES),
            flag=one_of("flag", [*_CALL_FLAGS, *(flag.value for flag in QualityFlag)]),
            reason=one_of("reason", [code.value for code in ReasonCode]),
            sort=SortKey(one_of("sort", [key.value for key in SortKey], SortKey.FINISHED.value)),
            page=number_of(given, "page", 1, _LAST_PAGE),
        )

    @property
    def is_quick(self) -> bool:
        """Whether indexes find the slides of this page of the list, so that none is searched."""
        return not self.text and self.page <= _QUICK_PAGES

    def url(self, **changes: str | int) -> str:
        """Return the list's address with changed parameters, starting at the first page."""
        parameters = {
            "text": self.text,
            "status": self.status,
            "flag": self.flag,
            "reason": self.reason,
            "sort": self.sort.value,
            **changes,
        }
        kept = {name: value for name, value in parameters.items() if value not in ("", "finished")}
        return f"/?{urlencode(kept)}" if kept else "/"

    @property
    def wanted(self) -> ResultFilter:
        raised = self.flag and self.flag not in _CALL_FLAGS
        return ResultFilter(
            status=self.status or None,
            reason_code=ReasonCode(self.reason) if self.reason else None,
            borderline=True if self.flag == "borderline" else None,
            send_to_ihc=True if self.flag == "send-to-ihc" else None,
            text=self.text or None,
            flags=frozenset({QualityFlag(self.flag)} if raised else ()),
        )


def number_of(given: Mapping[str, str], name: str, default: int, most: int) -> int:
    """Return a parameter that is a positive whole number. Raises BadParameter."""
    text = given.get(name)
    if not text:
        return default
    digits = text.isascii() and text.isdecimal() and len(text) <= len(str(most))
    if not digits or not 0 < int(text) <= most:
        raise BadParameter(f"The parameter {name} can be a whole number from 1 to {most}.")
    return int(text)


def gauge_of(result: SlideResult) -> Gauge | None:
    """Return the places of a slide's share, its interval and its bundle's threshold on a line.

    None if the bundle knows no share of HER2-high tumour.
    """
    threshold = result.threshold_percent
    if threshold is None:
        return None

    def place(value: float | None) -> float | None:
        return None if value is None else _place(value)

    # A tick beside the threshold would overlap with it.
    others = {tick for tick in _TICKS if abs(_place(tick) - _place(threshold)) >= _LEAST_GAP}
    return Gauge(
        value=place(result.high_expression_percent),
        low=place(result.ci_low),
        high=place(result.ci_high),
        threshold=_place(threshold),
        threshold_percent=threshold,
        ticks=tuple((tick, _place(tick)) for tick in sorted({*others, threshold})),
    )


def _place(percent: float) -> float:
    return round(10 * math.sqrt(min(max(percent, 0), 100)), 2)


class NoSuchPage(Her2dError):  # noqa: N818  the name is the problem
    """The list has fewer pages."""


def slide_list(db: Database, query: ListQuery) -> SlideList:
    """Return the contents of the list page. Raises NoSuchPage."""
    matching = count_results(db, query.wanted)
    if query.page > 1 and (query.page - 1) * PAGE >= matching:
        raise NoSuchPage(f"The list has no page {query.page}.")
    rising = query.sort in (SortKey.NAME, SortKey.MARGIN)
    found = list_results(
        db,
        query.wanted,
        order=Order(query.sort, descending=not rising),
        limit=PAGE,
        offset=(query.page - 1) * PAGE,
    )
    more = query.page * PAGE < matching
    return SlideList(
        cards=tuple(Card(r, gauge_of(r)) for r in found),
        matching=matching,
        text=query.text,
        statuses=_choices(
            query,
            "status",
            query.status,
            (("all", ""), *((status, status) for status in _STATUSES)),
        ),
        concerns=_choices(
            query,
            "flag",
            query.flag,
            (
                *((label, flag) for flag, label in _CALL_FLAGS.items()),
                *((flag.value, flag.value) for flag in QualityFlag),
            ),
        ),
        reasons=_choices(
            query,
            "reason",
            query.reason,
            (("any reason", ""), *((code.value, code.value) for code in ReasonCode)),
        )
        if query.status == Her2Status.INDETERMINATE
        else (),
        orders=_choices(
            query,
            "sort",
            query.sort.value,
            (
                ("newest", "finished"),
                ("highest P", "percent"),
                ("closest to threshold", "margin"),
                ("name", "name"),
            ),
        ),
        failures=_failures(db, query),
        previous=query.url(page=query.page - 1) if query.page > 1 else None,
        next=query.url(page=query.page + 1) if more else None,
    )


def _failures(db: Database, query: ListQuery) -> Failures:
    """Return the files that could not be processed and were not replaced by another file since."""
    if query.page > 1 or query.status or query.flag or query.reason:
        return Failures(0, ())
    named = "instr(lower(file_name), lower(:text)) > 0" if query.text else "1"
    # Left to itself, SQLite sorts all quarantined jobs.
    unresolved = (
        f"jobs indexed by jobs_unresolved where state = 'quarantined' and is_newest = 1 and {named}"
    )
    files = [
        FailedFile(**row)
        for row in db.query(
            f"select id as job_id, file_name, reason, finished_at from {unresolved}"
            " order by finished_at desc, id desc limit :most",
            {"text": query.text, "most": _FAILURES},
        )
    ]
    if not query.text:
        return Failures(JobQueue(db).unresolved(), tuple(files))
    (total,) = db.execute(f"select count(*) from {unresolved}", {"text": query.text}).fetchone()
    return Failures(int(total), tuple(files))


def slide_page(db: Database, key: str) -> SlidePage:
    """Return the contents of a slide's page.

    Args:
        key: as for `find_slide`. The pages' own links have the form `id:7`, which is never
            ambiguous.

    Raises:
        SlideNotFound, AmbiguousSlide: as from `find_slide`.
    """
    result = find_slide(db, key)
    return SlidePage(
        result=result,
        gauge=gauge_of(result),
        quality=tuple(quality_rows(result)),
        runs=tuple(runs_of_slide(db, result.slide_id)),
        timings=tuple(timings_of_run(db, result.run_id)),
        newer=_neighbour(db, "run_id > ? order by run_id", result.run_id),
        older=_neighbour(db, "run_id < ? order by run_id desc", result.run_id),
    )


def _choices(
    query: ListQuery, name: str, chosen: str, options: tuple[tuple[str, str], ...]
) -> tuple[Choice, ...]:
    # Choosing an active flag again removes it.
    return tuple(
        Choice(
            label,
            query.url(**{name: "" if name == "flag" and value == chosen else value}),
            value == chosen,
        )
        for label, value in options
    )


def _neighbour(db: Database, where: str, run_id: int) -> int | None:
    rows = db.query(f"select slide_id from slide_results where {where} limit 1", [run_id])
    return next((int(row["slide_id"]) for row in rows), None)
