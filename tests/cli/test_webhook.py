"""`her2d webhook`: events are sent again."""

from contextlib import closing
from pathlib import Path

import pytest

from her2d.db.connection import open_database
from her2d.queue.store import JobQueue
from her2d.system.file_identity import FileState
from her2d.webhook.outbox import Outbox


@pytest.fixture
def sent(laboratory, monkeypatch):
    """Two quarantines that were sent, a day apart."""
    monkeypatch.setenv("HER2D_WEBHOOK__URL", "http://127.0.0.1:9/hook")
    with closing(open_database(laboratory.database)) as db:
        outbox = Outbox(db)
        outbox.begin()
        for name in ("a.tif", "b.tif"):
            JobQueue(db).refuse(
                Path("/inbox") / name, FileState(1, 2, 3), f"{name} is not a slide."
            )
            outbox.done(outbox.next())
        db.execute("update events set at = '2026-03-01T10:00:00.000000Z' where id = 1")
        db.execute("update events set at = '2026-03-02T10:00:00.000000Z' where id = 2")
        db.conn.commit()


def queued(laboratory) -> list[str]:
    with closing(open_database(laboratory.database)) as db:
        outbox, found = Outbox(db), []
        while event := outbox.next():
            found.append(event.detail)
            outbox.done(event)
        return found


def test_events_since_a_time_are_queued_again(laboratory, sent):
    found = laboratory.run("webhook", "resend", "--since", "2026-03-02")
    assert found.stdout == "Queued 1 event for the webhook.\n"
    assert queued(laboratory) == ["b.tif is not a slide."]


def test_one_event_is_queued_again(laboratory, sent):
    laboratory.run("webhook", "resend", "--event", 1)
    assert queued(laboratory) == ["a.tif is not a slide."]


def test_an_event_that_was_never_sent_is_refused(laboratory, sent):
    found = laboratory.run("webhook", "resend", "--event", 7)
    assert "Event 7 was never sent" in str(found.exception)


@pytest.mark.parametrize("arguments", [(), ("--since", "2026-03-02", "--event", 1)])
def test_either_a_time_or_an_event_must_be_given(laboratory, sent, arguments):
    found = laboratory.run("webhook", "resend", *arguments)
    assert "either --since or --event" in str(found.exception)


def test_a_url_that_only_the_daemon_knows_is_enough(laboratory, sent, monkeypatch):
    monkeypatch.delenv("HER2D_WEBHOOK__URL")
    found = laboratory.run("webhook", "resend", "--event", 1)
    assert found.exit_code == 0
    assert "Queued 1 event for" in found.stdout
    assert "url is not set here" in found.stdout
    assert queued(laboratory) == ["a.tif is not a slide."]


def test_without_a_webhook_nothing_is_queued(laboratory):
    open_database(laboratory.database).close()
    found = laboratory.run("webhook", "resend", "--event", 1)
    assert "[webhook] url is not set" in str(found.exception)
