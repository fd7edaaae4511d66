"""The webhook, against a real receiver."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from standardwebhooks import Webhook as Receiving

from her2d.database import open_database
from her2d.intake import FileState, JobQueue
from her2d.settings import SettingsError, WebhookSettings, load_settings
from her2d.webhook import Webhook, next_event, signature

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PATIENCE_S = 30


@dataclass
class Receiver:
    """Answers with the next of `answers`, then 204, and keeps what it was sent."""

    answers: list[int] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)
    url: str = ""

    def receive(self, headers: dict[str, str], body: bytes) -> int:
        with self.changed:
            self.headers.append(headers)
            self.bodies.append(body)
            self.changed.notify_all()
            return self.answers.pop(0) if self.answers else 204

    def wait_for(self, requests: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.bodies) >= requests, PATIENCE_S)

    @property
    def documents(self) -> list[dict]:
        return [json.loads(body) for body in self.bodies]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    kept = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            self.send_response(kept.receive(dict(self.headers), body))
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        kept.url = f"http://127.0.0.1:{server.server_port}/hook"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield kept
        server.shutdown()
        thread.join()


@pytest.fixture
def database(tmp_path):
    """A new database whose webhook has been set up: what happens next is news."""
    path = tmp_path / "her2d.sqlite"
    db = open_database(path)
    db.execute("insert into webhook_cursor values (1, 0, '')")
    db.conn.commit()
    db.close()
    return path


def quarantine(database, *names: str) -> None:
    db = open_database(database)
    for name in names:
        JobQueue(db).refuse(database.parent / name, FileState(1, 2, 3), f"{name} is no slide.")
    db.close()


@contextmanager
def notifying(database, url: str, **settings: object) -> Iterator[None]:
    stop = threading.Event()
    webhook = Webhook(WebhookSettings(url=url, **settings), database, stop)
    thread = threading.Thread(target=webhook.run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def test_a_quarantine_is_told_with_its_reason(database, receiver):
    quarantine(database, "bad.tif")
    with notifying(database, receiver.url):
        receiver.wait_for(1)
    (told,) = receiver.documents
    assert told["type"] == "slide.quarantined"
    assert told["data"]["reason"] == "bad.tif is no slide."
    assert told["data"]["path"].endswith("bad.tif")


def test_a_receivers_own_library_accepts_the_signature(database, receiver):
    quarantine(database, "bad.tif")
    with notifying(database, receiver.url, secret=SECRET):
        receiver.wait_for(1)
    Receiving(SECRET).verify(
        receiver.bodies[0], {k.lower(): v for k, v in receiver.headers[0].items()}
    )


def test_the_signature_is_the_one_of_the_specification():
    # https://github.com/standard-webhooks/standard-webhooks gives this example.
    found = signature(SECRET, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_an_event_is_tried_until_it_is_taken_and_keeps_its_id(database, receiver):
    receiver.answers = [503, 429]
    quarantine(database, "a.tif", "b.tif")
    with notifying(database, receiver.url):
        receiver.wait_for(4)
    ids = [headers["webhook-id"] for headers in receiver.headers]
    assert ids[0] == ids[1] == ids[2] != ids[3]
    assert [told["data"]["path"][-5:] for told in receiver.documents] == ["a.tif"] * 3 + ["b.tif"]


def test_an_event_the_receiver_will_never_take_does_not_hold_up_the_next(database, receiver):
    receiver.answers = [400]
    quarantine(database, "a.tif", "b.tif")
    with notifying(database, receiver.url):
        receiver.wait_for(2)
    assert receiver.documents[1]["data"]["path"].endswith("b.tif")


def test_nothing_is_lost_while_the_receiver_is_away_or_the_daemon_stopped(database, receiver):
    with notifying(database, "http://127.0.0.1:9/hook"):  # the discard port: nobody listens
        quarantine(database, "a.tif")
        db = open_database(database)
        assert next_event(db) is not None
        db.close()
    quarantine(database, "b.tif")
    with notifying(database, receiver.url):
        receiver.wait_for(2)
    with notifying(database, receiver.url):
        quarantine(database, "c.tif")
        receiver.wait_for(3)
    names = [told["data"]["path"][-5:] for told in receiver.documents]
    assert names == ["a.tif", "b.tif", "c.tif"]


def test_an_event_too_old_is_given_up(database, receiver):
    quarantine(database, "old.tif")
    db = open_database(database)
    db.execute("update events set at = '2020-01-01T00:00:00.000000Z'")
    db.conn.commit()
    db.close()
    quarantine(database, "new.tif")
    with notifying(database, receiver.url, give_up_after_h=1.0):
        receiver.wait_for(1)
    assert receiver.documents[0]["data"]["path"].endswith("new.tif")


def test_a_new_webhook_is_not_told_the_past(tmp_path, receiver):
    path = tmp_path / "her2d.sqlite"
    quarantine(path, "past.tif")
    with notifying(path, receiver.url):
        db = open_database(path)
        while not db.execute("select count(*) from webhook_cursor").fetchone()[0]:
            pass
        db.close()
        quarantine(path, "present.tif")
        receiver.wait_for(1)
    assert receiver.documents[0]["data"]["path"].endswith("present.tif")


@pytest.mark.parametrize("secret", ["whsec_short", "whsec_c2hvcnQ=", "not base64 at all"])
def test_a_bad_secret_is_refused_and_never_printed(tmp_path, monkeypatch, secret):
    monkeypatch.setenv("HER2D_WEBHOOK__SECRET", secret)
    with pytest.raises(SettingsError, match=r"webhook\.secret") as refused:
        load_settings(None)
    assert secret not in str(refused.value)


def test_a_secret_is_not_shown_with_the_settings():
    settings = WebhookSettings(secret=SECRET)
    assert SECRET not in settings.model_dump_json() + repr(settings)
