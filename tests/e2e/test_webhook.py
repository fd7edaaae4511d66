"""A real daemon that sends webhook events to a real receiver."""

import contextlib
import sqlite3

import pytest
import tifffile
from standardwebhooks import Webhook as Receiving
from webhook_receiver import receiving

pytestmark = pytest.mark.slow

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture
def receiver():
    with receiving() as found:
        yield found


def test_a_daemon_sends_each_result_and_quarantine_to_its_receiver(site, receiver, write_slide):
    settings = {"HER2D_WEBHOOK__URL": receiver.url, "HER2D_WEBHOOK__SECRET": SECRET}
    with site.daemon(**settings):
        site.wait_until(lambda: is_set_up(site.database))
        write_slide(["Sw"], "a.tif", folder=site.inbox)
        receiver.wait_until_taken(1)
        (site.inbox / "bad.tif").write_bytes(b"\x89PNG and so on")
        receiver.wait_until_taken(2)
        without_magnification = write_slide(["Sw"], "c.part", folder=site.inbox)
        tifffile.tiffcomment(without_magnification, "Motic V1.0.0\nno size|Barcode = S26-17")
        without_magnification.rename(site.inbox / "c.tif")
        receiver.wait_until_taken(3)
    for headers, body in zip(receiver.headers, receiver.bodies, strict=True):
        Receiving(SECRET).verify(body, headers)
    result, quarantine, refused = receiver.taken
    assert result["type"] == "slide.result"
    assert result["data"] == site.results()["a.tif"].model_dump(mode="json")
    assert quarantine["type"] == "slide.quarantined"
    assert quarantine["data"]["file_name"] == "bad.tif"
    assert (refused["type"], refused["data"]["barcode"]) == ("slide.quarantined", "S26-17")
    delivered = [line for line in site.lines() if line["event"] == "webhook_delivered"]
    assert [line["job_id"] for line in delivered] == [1, 2, 3]
    assert delivered[0]["slide_id"] == result["data"]["slide_id"]
    assert SECRET not in site.log.read_text()


def is_set_up(database) -> bool:
    with contextlib.closing(sqlite3.connect(database)) as db:
        return db.execute("select count(*) from webhook_cursor").fetchone()[0] == 1
