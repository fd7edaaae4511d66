"""An optional webhook: each result, failure and quarantine as signed JSON, delivered at least once.

Requests follow Standard Webhooks (https://www.standardwebhooks.com): whatever is no success is
tried again, for an answer of 401, 404 or 500 may come of a secret or a server that is just being
changed. Only 410, "gone", is obeyed: nothing is sent until the daemon's next start, and nothing is
lost.

An event is tried a few times in its place, then steps aside: later ones may come before it, but
none waits for it. That each comes matters more than their order, which `timestamp` tells;
`webhook-id` tells repetitions.
"""

import base64
import binascii
import enum
import hashlib
import hmac
import sqlite3
import threading
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from structlog.contextvars import bound_contextvars

from her2d.db.connection import open_database
from her2d.settings import WebhookSettings
from her2d.system.backoff import Backoff
from her2d.webhook.outbox import LONGEST_WAIT_S, Event, Outbox

if TYPE_CHECKING:
    import httpx

log = structlog.get_logger(__name__)

_LOOK_AGAIN_S = 1.0
_BACKOFF = Backoff(first_s=1.0, longest_s=LONGEST_WAIT_S, jitter=0.25)
_TRIES_IN_PLACE = 4
_SECRET_PREFIX = "whsec_"  # Standard Webhooks' mark of a secret


class _Answer(enum.Enum):
    TAKEN = enum.auto()
    NOT_TAKEN = enum.auto()
    GONE = enum.auto()


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
    """Delivers events until asked to stop; runs in a thread of its own."""

    def __init__(self, settings: WebhookSettings, database: Path, stop: threading.Event) -> None:
        self._settings = settings
        self._database = database
        self._stop = stop
        self._failures = 0  # in a row, of events in line
        self._failures_aside = 0  # of those that stepped aside
        self._tries: dict[int, int] = {}  # of the event that is next in line

    def run(self) -> None:
        """Never returns before it is asked to: an error costs the connections, not the webhook."""
        import httpx

        while not self._stop.is_set():
            try:
                with (
                    closing(open_database(self._database)) as db,
                    httpx.Client(timeout=self._settings.timeout_s) as client,
                ):
                    self._deliver(Outbox(db), client)
            except Exception:
                log.exception("webhook_interrupted")
                self._stop.wait(self._next_wait())

    def _deliver(self, outbox: Outbox, client: "httpx.Client") -> None:
        outbox.begin()
        while not self._stop.is_set():
            event = outbox.next()
            if event is None:
                self._stop.wait(_LOOK_AGAIN_S)
                continue
            with bound_contextvars(
                webhook_id=event.webhook_id, job_id=event.job_id, slide_id=event.slide_id
            ):
                self._see_to(outbox, event, client)

    def _see_to(self, outbox: Outbox, event: Event, client: "httpx.Client") -> None:
        match self._answer_to(outbox, event, client):
            case _Answer.TAKEN:
                self._failures = self._failures_aside = 0
                outbox.done(event)
                log.info("webhook_delivered")
            case _Answer.NOT_TAKEN:
                self._put_off(outbox, event)
                self._pause(outbox, event)
            case _Answer.GONE:
                log.error("webhook_gone", reason="Nothing is sent until the daemon's next start.")
                self._stop.wait()

    def _put_off(self, outbox: Outbox, event: Event) -> None:
        """Whatever its age, an event was tried by now."""
        if event.since is None:
            tries = self._tries.get(event.id, 0) + 1
            self._tries = {event.id: tries}
            if tries >= _TRIES_IN_PLACE:
                outbox.step_aside(event, _BACKOFF.wait_s(tries))
                log.warning("webhook_stepped_aside")
        elif datetime.now(UTC) - event.since > timedelta(hours=self._settings.give_up_after_h):
            outbox.done(event)
            log.error("webhook_given_up", tries=event.tries + _TRIES_IN_PLACE + 1)
        else:
            outbox.step_aside(event, _BACKOFF.wait_s(event.tries + _TRIES_IN_PLACE))

    def _next_wait(self) -> float:
        """Longer at each failure in a row, whichever event's: a receiver that is down is spared."""
        self._failures += 1
        return _BACKOFF.wait_s(self._failures)

    def _pause(self, outbox: Outbox, event: Event) -> None:
        """What stepped aside may be refused for ever by a receiver that takes all else: its
        failures are counted apart, and a new event ends the wait."""
        if event.since is None:
            self._stop.wait(self._next_wait())
            return
        self._failures_aside += 1
        end = time.monotonic() + _BACKOFF.wait_s(self._failures_aside)
        while (left := end - time.monotonic()) > 0 and not outbox.in_line():
            if self._stop.wait(min(left, _LOOK_AGAIN_S)):
                return

    def _answer_to(self, outbox: Outbox, event: Event, client: "httpx.Client") -> _Answer:
        import httpx

        try:
            body = outbox.document(event)
        except sqlite3.Error:
            raise
        except Exception:
            log.exception("webhook_event_untellable")
            return _Answer.NOT_TAKEN
        try:
            answer = client.post(
                str(self._settings.url), content=body, headers=self._headers(event, body)
            )
        except httpx.HTTPError as error:
            log.warning("webhook_unreachable", reason=f"{type(error).__name__}: {error}")
            return _Answer.NOT_TAKEN
        if answer.is_success:
            return _Answer.TAKEN
        log.warning("webhook_refused", status=answer.status_code)
        return _Answer.GONE if answer.status_code == httpx.codes.GONE else _Answer.NOT_TAKEN

    def _headers(self, event: Event, body: bytes) -> dict[str, str]:
        sent_at = int(datetime.now(UTC).timestamp())
        headers = {
            "content-type": "application/json",
            "webhook-id": event.webhook_id,
            "webhook-timestamp": str(sent_at),
        }
        if self._settings.secret is not None:
            secret = self._settings.secret.get_secret_value()
            headers["webhook-signature"] = signature(secret, event.webhook_id, sent_at, body)
        return headers


class Messenger:
    """The webhook's thread, where there is a webhook. Used by one thread."""

    def __init__(self, settings: WebhookSettings, database: Path, stop: threading.Event) -> None:
        self._webhook = Webhook(settings, database, stop) if settings.url is not None else None
        self._thread: threading.Thread | None = None

    def check(self) -> None:
        """Start the thread, and replace it should it have died."""
        if self._webhook is None or (self._thread is not None and self._thread.is_alive()):
            return
        if self._thread is not None:
            log.error("webhook_died")
        self._thread = threading.Thread(target=self._webhook.run, name="her2d-webhook", daemon=True)
        self._thread.start()

    def join(self, seconds: float) -> None:
        """Wait for the thread to end, which it was asked to, but no longer than that."""
        if self._thread is not None:
            self._thread.join(seconds)
