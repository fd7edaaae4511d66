"""An optional webhook: each result, failure and quarantine as signed JSON, delivered at least once.

The table `events` is the outbox: a cursor in the database remembers the last event that was
delivered, so that no crash and no outage of the receiver loses one. Requests follow Standard
Webhooks (https://www.standardwebhooks.com): `webhook-id` is the same at every try of an event, so
that a receiver can tell a repetition, and `webhook-signature` is an HMAC-SHA256.
"""

import base64
import binascii
import hashlib
import hmac
import json
import random
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from sqlite_utils import Database

from her2d.database import open_database
from her2d.intake import now
from her2d.results import find_slide
from her2d.settings import WebhookSettings

if TYPE_CHECKING:
    import httpx

log = structlog.get_logger(__name__)

_RESULT = "slide.result"
_TYPES = {"done": _RESULT, "failed": "slide.failed", "quarantined": "slide.quarantined"}
_LOOK_AGAIN_S = 1.0
_FIRST_RETRY_S, _LONGEST_RETRY_S = 1.0, 300.0
_TOO_MANY, _TIMEOUT = 429, 408
_SECRET_PREFIX = "whsec_"  # Standard Webhooks' mark of a secret


@dataclass(frozen=True, slots=True)
class Event:
    """One row of `events` on its way out."""

    id: int
    at: datetime
    type: str
    detail: str | None
    job_id: int | None
    slide_id: int | None

    @property
    def webhook_id(self) -> str:
        return f"her2d-event-{self.id}"


def signature(secret: str, webhook_id: str, timestamp: int, body: bytes) -> str:
    """The `webhook-signature` header: `v1,` and the base64 HMAC-SHA256 of id, time and body.

    Args:
        secret: `whsec_` and base64, as receivers' libraries generate it.
        timestamp: seconds since 1970, as in the header `webhook-timestamp`.

    Raises:
        ValueError: the secret is not base64.
    """
    try:
        key = base64.b64decode(secret.removeprefix(_SECRET_PREFIX), validate=True)
    except binascii.Error as error:
        raise ValueError("the webhook's secret must be base64") from error
    signed = f"{webhook_id}.{timestamp}.".encode() + body
    digest = hmac.new(key, signed, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


class Webhook:
    """Delivers events in order until asked to stop; runs in a thread of its own."""

    def __init__(self, settings: WebhookSettings, database: Path, stop: threading.Event) -> None:
        self._settings = settings
        self._database = database
        self._stop = stop
        self._failures = 0

    def run(self) -> None:
        import httpx

        db = open_database(self._database)
        _begin_with_what_comes(db)
        with httpx.Client(timeout=self._settings.timeout_s) as client:
            while not self._stop.is_set():
                try:
                    wait = self._step(db, client)
                except Exception as error:  # a webhook must not end the daemon
                    log.error("webhook_failed", exc_info=error)
                    wait = self._next_wait()
                self._stop.wait(wait)
        db.close()

    def _step(self, db: Database, client: "httpx.Client") -> float:
        """Deliver the next event, if there is one; returns how long to wait, in seconds."""
        event = next_event(db)
        if event is None:
            return _LOOK_AGAIN_S
        if datetime.now(UTC) - event.at > timedelta(hours=self._settings.give_up_after_h):
            log.error("webhook_given_up", webhook_id=event.webhook_id)
        elif not self._delivered(client, event.webhook_id, document(db, event)):
            return self._next_wait()
        self._failures = 0
        _move_cursor(db, event.id)
        return 0.0

    def _next_wait(self) -> float:
        """Twice as long at each failure in a row, with jitter."""
        self._failures += 1
        wait = min(_FIRST_RETRY_S * 2.0 ** (self._failures - 1), _LONGEST_RETRY_S)
        return wait * random.uniform(0.75, 1.25)

    def _delivered(self, client: "httpx.Client", webhook_id: str, body: bytes) -> bool:
        """True where the event needs no further try."""
        import httpx

        sent_at = int(datetime.now(UTC).timestamp())
        headers = {
            "content-type": "application/json",
            "webhook-id": webhook_id,
            "webhook-timestamp": str(sent_at),
        }
        if self._settings.secret is not None:
            secret = self._settings.secret.get_secret_value()
            headers["webhook-signature"] = signature(secret, webhook_id, sent_at, body)
        try:
            answer = client.post(str(self._settings.url), content=body, headers=headers)
        except httpx.HTTPError as error:
            log.warning("webhook_failed", webhook_id=webhook_id, reason=str(error))
            return False
        if answer.is_success:
            log.info("webhook_delivered", webhook_id=webhook_id)
            return True
        final = answer.is_client_error and answer.status_code not in (_TIMEOUT, _TOO_MANY)
        report = log.error if final else log.warning
        report("webhook_refused", webhook_id=webhook_id, status=answer.status_code)
        return final


def next_event(db: Database) -> Event | None:
    """The oldest event past the cursor that is news, None where there is none."""
    marks = ", ".join("?" for _ in _TYPES)
    row = db.execute(
        "select id, at, name, detail, job_id, slide_id from events"
        " where id > (select event_id from webhook_cursor)"
        f" and name in ({marks}) order by id limit 1",
        list(_TYPES),
    ).fetchone()
    if row is None:
        return None
    event_id, at, name, detail, job_id, slide_id = row
    return Event(event_id, datetime.fromisoformat(at), _TYPES[name], detail, job_id, slide_id)


def document(db: Database, event: Event) -> bytes:
    """The JSON that tells of `event`: the slide's current result, or the job and its reason."""
    data: Mapping[str, Any]
    if event.type == _RESULT:
        data = find_slide(db, str(event.slide_id)).model_dump(mode="json")
    else:
        data = {"reason": event.detail, **_job(db, event.job_id)}
    return json.dumps(
        {"type": event.type, "timestamp": event.at.isoformat(), "data": data}
    ).encode()


def _job(db: Database, job_id: int | None) -> Mapping[str, Any]:
    columns = "id as job_id, path, file_name, attempts"
    return next(db.query(f"select {columns} from jobs where id = ?", [job_id]))


def _begin_with_what_comes(db: Database) -> None:
    """A webhook that is new is told what happens from now on, not the whole past."""
    with db.atomic():
        db.execute(
            "insert or ignore into webhook_cursor (id, event_id, at)"
            " select 1, coalesce(max(id), 0), ? from events",
            [now()],
        )


def _move_cursor(db: Database, event_id: int) -> None:
    with db.atomic():
        db.execute("update webhook_cursor set event_id = ?, at = ?", [event_id, now()])
