"""What is sent of an event."""

import json
from contextlib import closing

from laboratory import laboratory

from her2d.db.connection import open_database
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
