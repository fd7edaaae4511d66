"""What is sent of an event."""

import json
from contextlib import closing
from pathlib import Path

from laboratory import laboratory

from her2d.db.connection import open_database
from her2d.queue.store import JobQueue
from her2d.results.renaming import rename_slide
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
    assert data["reason"] == "The same scan was already processed as slide 1."
