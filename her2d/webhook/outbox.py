"""The events that the webhook has to deliver, and how far delivery has come.

A cursor in the database holds the last event of `events` that was delivered or deferred. An event
that the receiver does not accept is deferred, so that later events can be delivered before its next
attempt. No event is lost if the daemon crashes or the receiver is down.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel
from sqlite_utils import Database

from her2d.db.write_ahead_log import write_back
from her2d.results.queries import result_of_slide
from her2d.results.records import SlideResult
from her2d.system.clock import as_text, in_seconds, now
from her2d.system.write_transaction import write_transaction
from her2d.webhook.payload import (
    CancelledEvent,
    DuplicateData,
    DuplicateEvent,
    FailedEvent,
    FailureData,
    QuarantinedEvent,
    RenamedEvent,
    RenamedResult,
    ResultEvent,
    version_of,
)

_TYPES = {
    "done": "slide.result",
    "failed": "slide.failed",
    "quarantined": "slide.quarantined",
    "cancelled": "slide.cancelled",
    "duplicate": "slide.duplicate",
    "renamed": "slide.renamed",
}
_FAILURES: Mapping[str, type[FailedEvent | QuarantinedEvent | CancelledEvent]] = {
    "slide.failed": FailedEvent,
    "slide.quarantined": QuarantinedEvent,
    "slide.cancelled": CancelledEvent,
}
# As the index has it, which knows no parameters. Left to itself, SQLite reads all other events.
_NEW = (
    "from events indexed by events_to_deliver"
    f" where name in ({', '.join(repr(name) for name in _TYPES)})"
    " and id > (select event_id from webhook_cursor)"
)
_COLUMNS = "events.id, events.at, events.name, events.detail, events.job_id, events.slide_id"

LONGEST_WAIT_S = 375.0
"""The longest time that an event is deferred for; longer ones mean that the clock was set back."""


@dataclass(frozen=True, slots=True)
class Event:
    """One row of `events` that is to be delivered.

    Attributes:
        tries: number of attempts since the event was deferred.
        deferred_s: how long deliveries have run since the event was deferred, None if it was not.
    """

    id: int
    at: datetime
    type: str
    detail: str | None
    job_id: int | None
    slide_id: int | None
    tries: int = 0
    deferred_s: float | None = None

    @property
    def webhook_id(self) -> str:
        """The event's unique id, the same at every attempt.

        It contains the time, because row ids are not unique: another database starts at 1 too, and
        a restored backup uses the ids of lost events again.
        """
        return f"her2d-event-{self.id}-{self.at:%Y%m%dT%H%M%S%fZ}"


class Outbox:
    """The undelivered events of one database; used only in the thread that opened `db`."""

    def __init__(self, db: Database, clock: Callable[[], float] = time.monotonic) -> None:
        """Use a connection, and a clock that no change of the system's time moves."""
        self._db = db
        self._clock = clock
        self._begun_at: float | None = None
        self._ran_before_s = 0.0

    def begin(self) -> None:
        """Begin to deliver, and count from now on how long deliveries run.

        The cursor of a new webhook is set to the last event, so that no earlier ones are sent.
        """
        self._ran_before_s = self._stored_ran_s()
        self._begun_at = self._clock()
        with write_transaction(self._db):
            self._db.execute(
                "insert or ignore into webhook_cursor (id, event_id, at)"
                " select 1, coalesce(max(id), 0), ? from events",
                [now()],
            )

    def waiting(self) -> int:
        """Return the number of undelivered events, deferred ones included."""
        row = self._db.execute(
            f"select (select count(*) from webhook_retries) + (select count(*) {_NEW})"
        ).fetchone()
        return int(row[0])

    def oldest_waiting_s(self) -> float:
        """Return how long the event has waited that waits longest; 0 if none waits.

        A deferred event has waited for as long as deliveries ran, so that an event of last month
        that is sent again has not waited for a month; or since it was due, if none runs.
        """
        since_s, due_at = self._db.execute(
            "select min(since_s), min(next_at) from webhook_retries"
        ).fetchone()
        new = self._next_new()
        waits = [0.0] if since_s is None else [0.0, self._ran_s() - float(since_s)]
        began = [new.at] if new is not None else []
        began += [datetime.fromisoformat(due_at)] if due_at is not None else []
        waits += [(datetime.now(UTC) - at).total_seconds() for at in began]
        return max(waits)

    def next(self) -> Event | None:
        """Return the event to deliver now.

        Events that were never deferred come first, because a deferred event that is never accepted
        may be due at every call.

        Returns:
            The oldest event that was not deferred, else a deferred one that is due, else None.
        """
        return self._next_new() or self._next_deferred()

    def write_back(self) -> None:
        """Write the events to the database file, so that none is sent that its log could lose."""
        write_back(self._db)

    def has_new(self) -> bool:
        """Return whether there is an event that was not deferred."""
        return self._next_new() is not None

    def _stored_ran_s(self) -> float:
        row = self._db.execute("select ran_s from webhook_clock").fetchone()
        return float(row[0]) if row else 0.0

    def _ran_s(self) -> float:
        """Return how long deliveries have run so far, in this process and in earlier ones."""
        if self._begun_at is None:
            return self._stored_ran_s()
        return self._ran_before_s + self._clock() - self._begun_at

    def _keep_clock(self) -> None:
        self._db.execute(
            "insert into webhook_clock (id, ran_s) values (1, ?)"
            " on conflict (id) do update set ran_s = excluded.ran_s",
            [self._ran_s()],
        )

    def _next_deferred(self) -> Event | None:
        """Return a deferred event that is due, or whose time is too far off to be right."""
        row = self._db.execute(
            f"select {_COLUMNS}, tries, ? - since_s from webhook_retries"
            " join events on events.id = webhook_retries.event_id"
            " where next_at <= ? or next_at > ? order by next_at, event_id limit 1",
            [self._ran_s(), now(), in_seconds(LONGEST_WAIT_S + 1)],
        ).fetchone()
        return _event(*row) if row else None

    def _next_new(self) -> Event | None:
        row = self._db.execute(f"select {_COLUMNS} {_NEW} order by id limit 1").fetchone()
        return _event(*row) if row else None

    def done(self, event: Event) -> None:
        """Record that the event was delivered or given up."""
        with write_transaction(self._db):
            self._db.execute("delete from webhook_retries where event_id = ?", [event.id])
            self._keep_clock()
            self._advance_cursor(event)

    def defer(self, event: Event, wait_s: float) -> None:
        """Deliver later events first, and this one after `wait_s`, at most LONGEST_WAIT_S."""
        with write_transaction(self._db):
            self._db.execute(
                "insert into webhook_retries (event_id, since_s, tries, next_at)"
                " values (?, ?, 1, ?) on conflict (event_id) do update"
                " set tries = tries + 1, next_at = excluded.next_at",
                [event.id, self._ran_s(), in_seconds(wait_s)],
            )
            self._keep_clock()
            self._advance_cursor(event)

    def _advance_cursor(self, event: Event) -> None:
        self._db.execute(
            "update webhook_cursor set event_id = ?, at = ? where event_id < ?",
            [event.id, now(), event.id],
        )

    def send_again(self, *, since: datetime | None = None, event_id: int | None = None) -> int:
        """Send events again that were delivered or given up. Give one of the arguments.

        Args:
            since: send all events from this time on.
            event_id: send this event.

        Returns:
            The number of events; those that have not been sent yet do not count.
        """
        with write_transaction(self._db):
            cursor = self._db.execute(
                "insert into webhook_retries (event_id, since_s, tries, next_at)"
                " select id, :ran, 0, :now from events"
                " where id <= (select max(event_id) from webhook_cursor)"
                " and (:since is null or at >= :since) and (:event is null or id = :event)"
                f" and name in ({', '.join(f':{name}' for name in _TYPES)})"
                " on conflict (event_id) do update"
                " set since_s = excluded.since_s, tries = 0, next_at = excluded.next_at",
                {
                    "ran": self._ran_s(),
                    "now": now(),
                    "since": since and as_text(since),
                    "event": event_id,
                    **{name: name for name in _TYPES},
                },
            )
        return cursor.rowcount

    def document(self, event: Event) -> bytes:
        """Return the JSON to send.

        It is the slide's current result, with its former name if it was renamed; or the job and its
        reason, and the slide that a duplicate is the same as.

        Raises:
            SlideNotFound: the slide was deleted.
            KeyError: the job was deleted.
        """
        at = event.at.isoformat()
        document: BaseModel
        match event.type:
            case "slide.result":
                result = self._result(event)
                document = ResultEvent(timestamp=at, data=result, schema_version=version_of(result))
            case "slide.renamed":
                result, former = self._result(event), self._former_name(event)
                renamed = RenamedResult(**result.model_dump(), former_file_name=former)
                document = RenamedEvent(
                    timestamp=at, data=renamed, schema_version=version_of(result)
                )
            case "slide.duplicate":
                slide_id = self._slide_of(event.job_id)
                data = DuplicateData(**self._job(event), slide_id=slide_id)
                document = DuplicateEvent(timestamp=at, data=data)
            case kind:
                failure = FailureData(**self._job(event), will_retry=kind == "slide.failed")
                document = _FAILURES[kind](timestamp=at, data=failure)
        return document.model_dump_json().encode()

    def _result(self, event: Event) -> SlideResult:
        return result_of_slide(self._db, event.slide_id or 0)

    def _former_name(self, event: Event) -> str | None:
        rows = self._db.query(
            "select file_name from former_names where slide_id = ? and until = ?",
            [event.slide_id, as_text(event.at)],
        )
        return next((row["file_name"] for row in rows), None)

    def _slide_of(self, job_id: int | None) -> int | None:
        rows = self._db.query("select slide_id from jobs where id = ?", [job_id])
        return next((row["slide_id"] for row in rows), None)

    def _job(self, event: Event) -> Mapping[str, Any]:
        """Return what is sent of an event's job; the barcode may be known from an earlier run."""
        rows = self._db.query(
            "select id as job_id, path, file_name, attempts, coalesce(barcode,"
            " (select barcode from slides where slides.id = jobs.slide_id),"
            " (select barcode from slides where slides.content_hash = jobs.content_hash)"
            ") as barcode from jobs where id = ?",
            [event.job_id],
        )
        for row in rows:
            return {**row, "reason": event.detail}
        raise KeyError(event.job_id)


def _event(
    event_id: int,
    at: str,
    name: str,
    detail: str | None,
    job_id: int | None,
    slide_id: int | None,
    tries: int = 0,
    deferred_s: float | None = None,
) -> Event:
    return Event(
        event_id,
        datetime.fromisoformat(at),
        _TYPES[name],
        detail,
        job_id,
        slide_id,
        tries,
        deferred_s,
    )
