"""What is sent of an event."""

import json
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from laboratory import laboratory

from her2d.db.connection import open_database
from her2d.queue.store import JobQueue
from her2d.results.renaming import rename_slide
from her2d.system.clock import as_text
from her2d.system.file_identity import FileState
from her2d.webhook.outbox import Outbox

__all__ = ["laboratory"]


def test_a_result_is_sent_whose_id_is_another_slides_barcode(laboratory, write_slide):
    laboratory.run("scan", write_slide(["Sw"], "first.tif"))
    laboratory.run("scan", write_slide(["ww"], "1.tif"))  # with the barcode 1
    with closing(open_database(laboratory.database)) as db:
        db.execute("insert into webhook_cursor values (1, 0, '')")
        outbox = Outbox(db)
        event = outbox.next()
        assert event.slide_id == 1
        assert json.loads(outbox.document(event))["data"]["file_name"] == "first.tif"


def sent(db) -> list[dict]:
    """Take every event that waits, and return what is sent of each."""
    outbox = Outbox(db)
    documents = []
    while (event := outbox.next()) is not None:
        documents.append(json.loads(outbox.document(event)))
        outbox.done(event)
    return documents


def test_a_renamed_slide_is_sent_with_its_result_and_its_former_name(laboratory, write_slide):
    laboratory.run("scan", write_slide(["Sw"], "before.tif"))
    with closing(open_database(laboratory.database)) as db:
        Outbox(db).begin()
        rename_slide(db, 1, Path("/in/after.tif"))
        (document,) = sent(db)
    assert document["type"] == "slide.renamed"
    data = document["data"]
    assert (data["former_file_name"], data["file_name"]) == ("before.tif", "after.tif")
    assert data["her2_status"] == "positive"


def test_a_duplicate_is_sent_with_the_slide_that_has_the_result(laboratory, write_slide):
    laboratory.run("scan", write_slide(["Sw"], "first.tif"))
    with closing(open_database(laboratory.database)) as db:
        Outbox(db).begin()
        jobs = JobQueue(db)
        jobs.queue(jobs.discover(Path("/in/copy.tif"), Path("/in"), FileState(1, 10, 20)))
        jobs.mark_duplicate(jobs.claim(), 1, "blake2b:aa")
        (document,) = sent(db)
    assert document["type"] == "slide.duplicate"
    data = document["data"]
    assert (data["slide_id"], data["file_name"], data["job_id"]) == (1, "copy.tif", 1)
    assert data["barcode"] == "first"
    assert data["reason"] == "The same scan was already processed as slide 1."


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def db(tmp_path):
    with closing(open_database(tmp_path / "her2d.sqlite")) as found:
        yield found


def quarantined(db, name: str, *, at: datetime) -> None:
    """Add an event that is to be sent and happened at that time."""
    JobQueue(db).refuse(Path("/in") / name, FileState(1, 2, 3), "It is a PNG.")
    db.execute("update events set at = ? where id = (select max(id) from events)", [as_text(at)])


def test_nothing_waits_if_everything_was_delivered(db):
    outbox = Outbox(db)
    outbox.begin()
    assert outbox.oldest_waiting_s() == 0
    quarantined(db, "a.tif", at=datetime.now(UTC) - timedelta(hours=1))
    assert outbox.oldest_waiting_s() == pytest.approx(3600, abs=60)
    outbox.done(outbox.next())
    assert outbox.oldest_waiting_s() == 0


def test_a_deferred_event_has_waited_for_as_long_as_deliveries_ran(db):
    clock = Clock()
    outbox = Outbox(db, clock)
    outbox.begin()
    quarantined(db, "a.tif", at=datetime.now(UTC))
    event = outbox.next()
    outbox.defer(event, 60)
    clock.now = 5000
    outbox.defer(event, 60)
    assert Outbox(db).oldest_waiting_s() == pytest.approx(5000)  # of another process


def test_an_old_event_that_is_sent_again_has_not_waited_since_it_happened(db):
    outbox = Outbox(db)
    outbox.begin()
    quarantined(db, "a.tif", at=datetime.now(UTC) - timedelta(days=30))
    outbox.done(outbox.next())
    outbox.send_again(event_id=1)
    assert outbox.waiting() == 1
    assert outbox.oldest_waiting_s() < 60


def test_a_deferred_event_that_nobody_sends_has_waited_since_it_was_due(db):
    outbox = Outbox(db)
    outbox.begin()
    quarantined(db, "a.tif", at=datetime.now(UTC))
    outbox.defer(outbox.next(), 1)
    hours_ago = as_text(datetime.now(UTC) - timedelta(hours=2))
    db.execute("update webhook_retries set next_at = ?", [hours_ago])
    assert outbox.oldest_waiting_s() == pytest.approx(7200, abs=60)
