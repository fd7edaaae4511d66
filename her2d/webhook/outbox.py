"""What the webhook has to tell: rows of `events`, and how far the telling has come.

A cursor in the database remembers the last event that needs no further look. An event that the
receiver would not take steps aside, so that the next ones pass, and waits there for its next try.
No crash and no outage of the receiver loses one.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlite_utils import Database

from her2d.results.queries import find_slide
from her2d.system.clock import as_text, in_seconds, now

_RESULT, _FAILED = "slide.result", "slide.failed"
_TYPES = {"done": _RESULT, "failed": _FAILED, "quarantined": "slide.quarantined"}
_MARKS = ", ".join("?" for _ in _TYPES)
_COLUMNS = "events.id, events.at, events.name, events.detail, events.job_id, events.slide_id"

LONGEST_WAIT_S = 375.0
"""That an event steps aside for; what is due later than that was put off by a clock ahead."""


@dataclass(frozen=True, slots=True)
class Event:
    """One row of `events` on its way out.

    Attributes:
        tries: how often it was tried since it stepped aside.
        since: when it stepped aside, None where it is next in line.
    """

    id: int
    at: datetime
    type: str
    detail: str | None
    job_id: int | None
    slide_id: int | None
    tries: int = 0
    since: datetime | None = None

    @property
    def webhook_id(self) -> str:
        """The same at every try, and no other event's: another database counts from 1 as well, and
        so does this one where a restored backup ends."""
        return f"her2d-event-{self.id}-{self.at:%Y%m%dT%H%M%S%fZ}"


class Outbox:
    """The events of one database that are news, through a connection that stays in one thread."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def begin(self) -> None:
        """A webhook that is new is told what happens from now on, not the whole past."""
        with self._db.atomic():
            self._db.execute(
                "insert or ignore into webhook_cursor (id, event_id, at)"
                " select 1, coalesce(max(id), 0), ? from events",
                [now()],
            )

    def waiting(self) -> int:
        """How many events are still to be told, those that stepped aside among them."""
        row = self._db.execute(
            "select (select count(*) from webhook_aside) + (select count(*) from events"
            f" where id > (select event_id from webhook_cursor) and name in ({_MARKS}))",
            list(_TYPES),
        ).fetchone()
        return int(row[0])

    def next(self) -> Event | None:
        """What is to be tried now: the oldest event that has not stepped aside, else one that has
        and is due; None where there is neither.

        What waits between two tries may be longer than what an event steps aside for, so that one
        which is never taken would be due each time, and come first for ever.
        """
        return self._first_in_line() or self._due()

    def in_line(self) -> bool:
        """Whether there is an event that has not stepped aside."""
        return self._first_in_line() is not None

    def _due(self) -> Event | None:
        """A wait longer than any that is set means that the clock was put back: it is over."""
        row = self._db.execute(
            f"select {_COLUMNS}, tries, since from webhook_aside"
            " join events on events.id = webhook_aside.event_id"
            " where next_at <= ? or next_at > ? order by next_at, event_id limit 1",
            [now(), in_seconds(LONGEST_WAIT_S + 1)],
        ).fetchone()
        return _event(*row) if row else None

    def _first_in_line(self) -> Event | None:
        row = self._db.execute(
            f"select {_COLUMNS} from events where id > (select event_id from webhook_cursor)"
            f" and name in ({_MARKS}) order by id limit 1",
            list(_TYPES),
        ).fetchone()
        return _event(*row) if row else None

    def done(self, event: Event) -> None:
        """The event needs no further try."""
        with self._db.atomic():
            self._db.execute("delete from webhook_aside where event_id = ?", [event.id])
            self._pass_by(event)

    def step_aside(self, event: Event, wait_s: float) -> None:
        """Let the next events pass, and try this one again in `wait_s` seconds, LONGEST_WAIT_S at
        most."""
        with self._db.atomic():
            self._db.execute(
                "insert into webhook_aside (event_id, since, tries, next_at) values (?, ?, 1, ?)"
                " on conflict (event_id) do update"
                " set tries = tries + 1, next_at = excluded.next_at",
                [event.id, now(), in_seconds(wait_s)],
            )
            self._pass_by(event)

    def _pass_by(self, event: Event) -> None:
        self._db.execute(
            "update webhook_cursor set event_id = ?, at = ? where event_id < ?",
            [event.id, now(), event.id],
        )

    def send_again(self, *, since: datetime | None = None, event_id: int | None = None) -> int:
        """Queue events that were told or given up before once more, all or one of them.

        Returns how many; those that still wait for their turn are not counted. Give one of both.
        """
        with self._db.atomic():
            cursor = self._db.execute(
                "insert into webhook_aside (event_id, since, tries, next_at)"
                " select id, :now, 0, :now from events"
                " where id <= (select max(event_id) from webhook_cursor)"
                " and (:since is null or at >= :since) and (:event is null or id = :event)"
                f" and name in ({', '.join(f':{name}' for name in _TYPES)})"
                " on conflict (event_id) do update"
                " set since = excluded.since, tries = 0, next_at = excluded.next_at",
                {
                    "now": now(),
                    "since": since and as_text(since),
                    "event": event_id,
                    **{name: name for name in _TYPES},
                },
            )
        return cursor.rowcount

    def document(self, event: Event) -> bytes:
        """The JSON that tells of `event`: the slide's current result, or the job and its reason.

        Raises SlideNotFound where its slide was deleted, KeyError where its job was.
        """
        data: Mapping[str, Any]
        if event.type == _RESULT:
            data = find_slide(self._db, str(event.slide_id)).model_dump(mode="json")
        else:
            will_retry = event.type == _FAILED
            data = {"reason": event.detail, "will_retry": will_retry, **self._job(event.job_id)}
        return json.dumps(
            {"type": event.type, "timestamp": event.at.isoformat(), "data": data}
        ).encode()

    def _job(self, job_id: int | None) -> Mapping[str, Any]:
        columns = "id as job_id, path, file_name, attempts"
        for row in self._db.query(f"select {columns} from jobs where id = ?", [job_id]):
            return row
        raise KeyError(job_id)


def _event(
    event_id: int,
    at: str,
    name: str,
    detail: str | None,
    job_id: int | None,
    slide_id: int | None,
    tries: int = 0,
    since: str | None = None,
) -> Event:
    return Event(
        event_id,
        datetime.fromisoformat(at),
        _TYPES[name],
        detail,
        job_id,
        slide_id,
        tries,
        datetime.fromisoformat(since) if since else None,
    )
