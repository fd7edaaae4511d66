"""The JSON Schema of what the webhook sends, held against what it sends."""

import json
from contextlib import closing
from pathlib import Path

import pytest
import tifffile
from jsonschema import Draft202012Validator, ValidationError
from laboratory import laboratory
from typer.testing import CliRunner

from her2d.cli.app import app
from her2d.db.connection import open_database
from her2d.queue.operator import cancel
from her2d.queue.store import JobQueue
from her2d.results.renaming import rename_slide
from her2d.slides.barcode_of_file import barcode_of_file
from her2d.system.file_identity import FileState
from her2d.webhook.outbox import Outbox
from her2d.webhook.payload import EVENTS, SCHEMA_VERSION, webhook_schema

__all__ = ["laboratory"]

VERSION_1 = Path(__file__).with_name("webhook-1.schema.json")


@pytest.fixture
def documents(laboratory, write_slide):
    """What is sent of each kind of event, by its type; the barcode of all slides is 900444."""
    laboratory.run("scan", write_slide(["Sw"], "900444.tif"))
    bad = write_slide(["Sw"], "bad.tif")
    tifffile.tiffcomment(bad, "Motic V1.0.0\nno size|Barcode = 900444")  # no magnification
    with closing(open_database(laboratory.database)) as db:
        db.execute("insert into webhook_cursor values (1, 0, '')")
        db.conn.commit()
        jobs = JobQueue(db)
        number = iter(range(1, 9))

        def claimed(path: Path):
            jobs.queue(jobs.discover(path, path.parent, FileState(next(number), 10, 20)))
            return jobs.claim()

        jobs.retry_later(
            claimed(Path("/in/failed.tif")), "It failed.", max_attempts=3, barcode="900444"
        )
        copy = claimed(Path("/in/copy.tif"))
        jobs.mark_duplicate(copy, 1, "blake2b:aa")
        waiting = jobs.discover(bad, bad.parent, FileState(9, 10, 20))
        cancel(jobs, waiting.id, barcode_of=barcode_of_file)
        rename_slide(db, 1, Path("/in/after.tif"))
    laboratory.run("scan", bad)
    sent = {}
    with closing(open_database(laboratory.database)) as db:
        outbox = Outbox(db)
        while (event := outbox.next()) is not None:
            sent[event.type] = json.loads(outbox.document(event))
            outbox.done(event)
    return sent


def test_every_document_is_valid_by_the_schema(documents):
    validator = Draft202012Validator(webhook_schema())
    validator.check_schema(webhook_schema())
    assert set(documents) == {event.model_fields["type"].default for event in EVENTS}
    for document in documents.values():
        validator.validate(document)


def test_every_document_has_its_version_and_the_slides_barcode(documents):
    for kind, document in documents.items():
        assert document["schema_version"] == SCHEMA_VERSION
        assert document["data"]["barcode"] == "900444", kind


def test_a_cancelled_file_is_not_tried_again(documents):
    data = documents["slide.cancelled"]["data"]
    assert (data["will_retry"], data["reason"]) == (False, "Cancelled by an operator.")


@pytest.mark.parametrize("field", ["type", "schema_version", "timestamp", "data"])
def test_a_document_that_lacks_a_field_is_refused_by_the_schema(documents, field):
    document = documents["slide.result"]
    del document[field]
    with pytest.raises(ValidationError):
        Draft202012Validator(webhook_schema()).validate(document)


def test_a_result_that_lacks_any_of_its_fields_is_refused_by_the_schema(documents):
    document = documents["slide.result"]
    for field in document["data"]:
        data = {key: value for key, value in document["data"].items() if key != field}
        with pytest.raises(ValidationError):
            Draft202012Validator(webhook_schema()).validate({**document, "data": data})


def test_what_version_1_promises_is_still_sent(documents):
    """The file is the schema that receivers of version 1 were given; it is never changed."""
    promised = json.loads(VERSION_1.read_text())
    assert promised["$id"] == f"urn:her2d:webhook:{SCHEMA_VERSION}"
    for document in documents.values():
        Draft202012Validator(promised).validate(document)


def test_the_command_prints_the_schema():
    printed = CliRunner().invoke(app, ["webhook", "schema"])
    assert json.loads(printed.stdout) == webhook_schema()
