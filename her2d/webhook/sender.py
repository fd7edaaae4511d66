"""Deliver results, failures, duplicates and renamings to a webhook as signed JSON, at least once.

Requests follow Standard Webhooks (https://www.standardwebhooks.com). Every response other than
success is tried again, because 401, 404 or 500 may come from a secret or a server that is being
changed. Only after 410 (gone) nothing is sent until the daemon's next start; the events are kept.

After a few attempts an event is deferred, so that later ones do not wait for it. Events may
therefore arrive out of order. Receivers can order them by `timestamp` and recognise repetitions by
`webhook-id`.
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
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path

from structlog.contextvars import bound_contextvars

from her2d.db.connection import open_existing
from her2d.settings import WebhookSettings
from her2d.system.backoff import Backoff
from her2d.system.clock import as_text
from her2d.system.loggers import get_logger
from her2d.webhook.exchange import DeliveryError, Exchange
from her2d.webhook.outbox import LONGEST_WAIT_S, Event, Outbox
from her2d.webhook.sent_mark import SentMark, note_sent

log = get_logger(__name__)

_POLL_S = 1.0
_BACKOFF = Backoff(first_s=1.0, longest_s=LONGEST_WAIT_S, jitter=0.25)
_TRIES_BEFORE_DEFERRING = 4
_HOUR_S = 3600.0
_SECRET_PREFIX = "whsec_"  # defined by Standard Webhooks


class _Outcome(enum.Enum):
    DELIVERED = enum.auto()
    FAILED = enum.auto()
    GONE = enum.auto()


def signature(secret: str, webhook_id: str, timestamp: int, body: bytes) -> str:
    """Return the `webhook-signature` header: `v1,` and the base64 HMAC-SHA256 of id, time and body.

    Args:
        secret: `whsec_` and base64, as receivers' libraries generate it.
        webhook_id: the header `webhook-id`.
        timestamp: the header `webhook-timestamp`, in seconds since 1970.
        body: the body of the request.

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


def request_headers(settings: WebhookSettings, webhook_id: str, body: bytes) -> dict[str, str]:
    """Return the headers of a request, with its signature if the settings have a secret.

    Args:
        settings: hold the secret.
        webhook_id: names the event.
        body: the body of the request.
    """
    sent_at = int(datetime.now(UTC).timestamp())
    headers = {
        "content-type": "application/json",
        "webhook-id": webhook_id,
        "webhook-timestamp": str(sent_at),
    }
    if settings.secret is not None:
        secret = settings.secret.get_secret_value()
        headers["webhook-signature"] = signature(secret, webhook_id, sent_at, body)
    return headers


class Webhook:
    """Delivers events until `stop` is set; `run` belongs in a separate thread.

    Args:
        settings: the address, the secret and how long to try.
        database: the database whose events are delivered.
        stop: set to end `run`.
    """

    def __init__(self, settings: WebhookSettings, database: Path, stop: threading.Event) -> None:
        self._settings = settings
        self._database = database
        self._stop = stop
        self._failures = 0  # consecutive ones of new events
        self._failures_of_deferred = 0  # consecutive ones of deferred events
        self._tries: dict[int, int] = {}  # of the oldest new event

    def run(self) -> None:
        """Deliver events until `stop` is set; connect again after an error."""
        while not self._stop.is_set():
            try:
                with (
                    closing(open_existing(self._database)) as db,
                    Exchange(str(self._settings.url), self._settings.timeout_s) as exchange,
                ):
                    self._deliver(Outbox(db), exchange)
            except Exception:
                log.exception("webhook_interrupted")
                self._stop.wait(self._next_wait())

    def _deliver(self, outbox: Outbox, exchange: Exchange) -> None:
        outbox.begin()
        while not self._stop.is_set():
            event = outbox.next()
            if event is None:
                self._stop.wait(_POLL_S)
                continue
            with bound_contextvars(
                webhook_id=event.webhook_id, job_id=event.job_id, slide_id=event.slide_id
            ):
                self._process(outbox, event, exchange)

    def _process(self, outbox: Outbox, event: Event, exchange: Exchange) -> None:
        outbox.write_back()
        match self._send(outbox, event, exchange):
            case _Outcome.DELIVERED:
                self._failures = self._failures_of_deferred = 0
                outbox.done(event)
                self._note(event)
                log.info("webhook_delivered")
            case _Outcome.FAILED:
                self._defer_or_give_up(outbox, event)
                self._pause(outbox, event)
            case _Outcome.GONE:
                log.error("webhook_gone", reason="Nothing is sent until the daemon's next start.")
                self._stop.wait()

    def _note(self, event: Event) -> None:
        """Note the newest event that was sent, for the case that the database is lost."""
        if event.deferred_s is not None:
            return  # a newer one may have been sent before
        try:
            note_sent(self._database, SentMark(event.id, as_text(event.at)))
        except OSError as error:
            log.warning("webhook_note_not_written", reason=str(error))

    def _defer_or_give_up(self, outbox: Outbox, event: Event) -> None:
        """Defer an event that failed too often, and give it up `give_up_after_h` after that.

        Only the time for which deliveries run counts: not when the event happened, and no change of
        the system's clock.
        """
        if event.deferred_s is None:
            tries = self._tries.get(event.id, 0) + 1
            self._tries = {event.id: tries}
            if tries >= _TRIES_BEFORE_DEFERRING:
                outbox.defer(event, _BACKOFF.wait_s(tries))
                log.warning("webhook_deferred")
        elif event.deferred_s > self._settings.give_up_after_h * _HOUR_S:
            outbox.done(event)
            log.error("webhook_given_up", tries=event.tries + _TRIES_BEFORE_DEFERRING + 1)
        else:
            outbox.defer(event, _BACKOFF.wait_s(event.tries + _TRIES_BEFORE_DEFERRING))

    def _next_wait(self) -> float:
        """Return how long to wait, which grows with each consecutive failure of any event."""
        self._failures += 1
        return _BACKOFF.wait_s(self._failures)

    def _pause(self, outbox: Outbox, event: Event) -> None:
        """Wait after a failure.

        A deferred event may be one that the receiver never accepts. Its failures are therefore
        counted separately, and a new event ends the wait.
        """
        if event.deferred_s is None:
            self._stop.wait(self._next_wait())
            return
        self._failures_of_deferred += 1
        end = time.monotonic() + _BACKOFF.wait_s(self._failures_of_deferred)
        while (left := end - time.monotonic()) > 0 and not outbox.has_new():
            if self._stop.wait(min(left, _POLL_S)):
                return

    def _send(self, outbox: Outbox, event: Event, exchange: Exchange) -> _Outcome:
        try:
            body = outbox.document(event)
        except sqlite3.Error:
            raise
        except Exception:
            log.exception("webhook_event_not_readable")
            return _Outcome.FAILED
        try:
            answer = exchange.post(body, request_headers(self._settings, event.webhook_id, body))
        except DeliveryError as error:
            log.warning("webhook_unreachable", reason=str(error))
            return _Outcome.FAILED
        if answer.is_late:
            log.warning(
                "webhook_answer_cut",
                status=answer.status,
                reason=f"The answer did not end within {self._settings.timeout_s:g} s."
                " Its status counts.",
            )
        if answer.is_success:
            return _Outcome.DELIVERED
        log.warning("webhook_refused", status=answer.status)
        return _Outcome.GONE if answer.status == HTTPStatus.GONE else _Outcome.FAILED


class WebhookSender:
    """Runs a webhook in a thread; does nothing if the settings have no address. For one thread.

    Args:
        settings: the webhook's settings.
        database: the database whose events are delivered.
        stop: set to end the thread.
    """

    def __init__(self, settings: WebhookSettings, database: Path, stop: threading.Event) -> None:
        self._webhook = Webhook(settings, database, stop) if settings.url is not None else None
        self._thread: threading.Thread | None = None

    def check(self) -> None:
        """Start the thread if it is not running."""
        if self._webhook is None or (self._thread is not None and self._thread.is_alive()):
            return
        if self._thread is not None:
            log.error("webhook_thread_died")
        self._thread = threading.Thread(target=self._webhook.run, name="her2d-webhook", daemon=True)
        self._thread.start()

    def join(self, seconds: float) -> None:
        """Wait at most `seconds` for the thread to end after `stop` was set."""
        if self._thread is not None:
            self._thread.join(seconds)
