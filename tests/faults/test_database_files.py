"""The database's files are removed, replaced or truncated under the real daemon."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon_site import PATIENCE_S, Site
from webhook_receiver import Receiver, receiving

from her2d.db.write_ahead_log import log_of
from her2d.queue.job import JobState

pytestmark = pytest.mark.slow


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


def replaced(database: Path) -> None:
    shutil.copy(database, database.with_name("copy"))
    database.with_name("copy").replace(database)


def cut_in_half(database: Path) -> None:
    os.truncate(database, database.stat().st_size // 2)


def garbled(database: Path) -> None:
    with database.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (database.stat().st_size - 4096))


def end_of(site: Site, process) -> str:
    """Return the last line of a daemon that ends by itself."""
    assert process.wait(PATIENCE_S) == 1
    text = site.log.read_text()
    assert "Traceback" not in text
    return text.splitlines()[-1]


@pytest.mark.parametrize(
    ("harm", "expected"),
    [
        (Path.unlink, "was removed or replaced"),
        (replaced, "was removed or replaced"),
        (lambda database: os.truncate(database, 0), "was truncated or overwritten"),
        (cut_in_half, "was truncated or overwritten|is damaged"),
        (garbled, "is damaged"),
    ],
    ids=["removed", "replaced", "emptied", "cut in half", "garbled"],
)
def test_a_lost_database_ends_the_daemon_in_one_sentence_and_is_not_made_again(
    site, write_slide, harm, expected
):
    process = site.start()
    write_slide(["Sw"], "a.tif", folder=site.inbox)
    site.wait_for(JobState.DONE)
    harm(site.database)
    write_slide(["ww"], "b.tif", folder=site.inbox)
    last = end_of(site, process)
    assert any(part in last for part in expected.split("|")), last
    assert "Her2dDatabaseUnreadable" in last


def test_a_removed_database_is_not_made_again(site, write_slide):
    with site.daemon():
        write_slide(["Sw"], "a.tif", folder=site.inbox)
        site.wait_for(JobState.DONE)
    site.database.unlink()
    assert "is missing, but there are heatmaps of its results" in end_of(site, site.start())
    assert not site.database.exists()
    site.command("db", "create")
    with site.daemon():
        site.wait_for(JobState.DONE)


def test_no_result_is_lost_with_a_removed_log(site, write_slide):
    process = site.start()
    write_slide(["Sw"], "a.tif", folder=site.inbox)
    site.wait_for(JobState.DONE)
    log_of(site.database).unlink()
    assert "was saved to the database" in end_of(site, process)
    with site.daemon():
        write_slide(["ww"], "b.tif", folder=site.inbox)
        site.wait_for(JobState.DONE, jobs=2)
    assert site.integrity() == "ok"
    assert site.runs() == 2


def test_no_archived_original_is_left_without_a_result_if_the_log_is_lost(site, write_slide):
    """The result is in the database's own file before the original leaves the inbox."""
    site.set("intake", on_success="move", archive=site.folder / "archive")
    process = site.start()
    for number in range(3):
        write_slide(["Sw"] * (number + 1), f"{number}.tif", folder=site.inbox)
    site.wait_until(lambda: len(list((site.folder / "archive").glob("*.tif"))) == 3)
    process.send_signal(signal.SIGSTOP)  # so that it cannot notice
    log_of(site.database).unlink()
    process.kill()
    process.wait()
    with site.daemon():
        site.wait_for(JobState.DONE, jobs=3)
    assert sorted(site.results()) == ["0.tif", "1.tif", "2.tif"]


def test_a_daemon_logs_that_it_makes_a_database(site):
    with site.daemon():
        pass
    created = [line for line in site.lines() if line["event"] == "database_created"]
    assert json.dumps([line["database"] for line in created]) == json.dumps([str(site.database)])


def test_events_that_were_sent_and_are_lost_are_reported_at_the_next_start(
    site, write_slide, receiver
):
    url = {"HER2D_WEBHOOK__URL": receiver.url}
    with site.daemon(**url):
        write_slide(["Sw"], "a.tif", folder=site.inbox)
        site.wait_until(lambda: site.events()["webhook_delivered"] == 1)
        backup = Path(site.command("db", "backup").strip())
        write_slide(["ww"], "b.tif", folder=site.inbox)
        site.wait_until(lambda: site.events()["webhook_delivered"] == 2)
    site.command("db", "restore", str(backup))
    with site.daemon(**url):
        site.wait_until(lambda: site.events()["webhook_delivered"] == 3)
    (lost,) = [line for line in site.lines() if line["event"] == "sent_events_lost"]
    assert "which this database lacks" in lost["reason"]
    assert sorted(site.results()) == ["a.tif", "b.tif"]
