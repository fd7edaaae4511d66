"""A real daemon that does not log patients' names."""

import json
import re

import pytest
from daemon_site import Site
from service_manager import service_manager

from her2d.queue.job import JobState

pytestmark = pytest.mark.slow

KEY = {"HER2D_OPS__PSEUDONYM_KEY": "a key of a hospital"}
FOLDERS = ["Li Si 1957", 'Wang "Mei"', "O'Brien \\ Zhao"]
GOOD = ['Sun "Xiaoming" 3.tif', "slide-Qian.tif", "e.tif"]
BAD = ["Zheng \\ Wu.tif", "7.tif"]
WORDS = re.findall(r"\w+", "Li Si 1957 Wang Mei Brien Zhao Sun Xiaoming Qian e Zheng Wu 7")


def texts(value: object) -> str:
    """Return every text in a line of the log except constants and names in the code."""
    if isinstance(value, dict):
        ours = ("timestamp", "level", "event", "frames")
        return " ".join(texts(item) for key, item in value.items() if key not in ours)
    if isinstance(value, list):
        return " ".join(map(texts, value))
    return value if isinstance(value, str) else ""


def assert_no_name_in(site: Site) -> None:
    text = site.log.read_text()
    lines = [
        json.loads(line) for line in text.splitlines()
    ]  # which also checks that every line is JSON
    folder = str(site.folder)
    logged = " ".join(map(texts, lines)).replace(folder, "")
    assert [word for word in WORDS if re.search(rf"(?<!\w){word}(?!\w)", logged)] == []
    assert [word for word in WORDS if len(word) > 1 and word in text] == []


def test_no_line_contains_a_patients_name_if_there_is_a_key(site, write_slide):
    archive = site.folder / "archive"
    site.set("intake", on_success="move", on_failure="move", archive=archive)
    archive.write_text("a file where the folder should be")
    for number, name in enumerate(GOOD):
        folder = site.inbox / FOLDERS[number]
        folder.mkdir()
        write_slide(["Sw" * (number + 1)], name, folder=folder)
    for name in BAD:
        (site.inbox / FOLDERS[0] / name).write_bytes(b"\x89PNG and so on" + name.encode())
    with site.daemon(**KEY):
        site.wait_for(JobState.DONE, jobs=len(GOOD))
        site.wait_for(JobState.QUARANTINED, jobs=len(BAD))
        site.wait_until(lambda: site.events()["slide_not_archived"] >= len(GOOD))
        site.wait_until(lambda: site.events()["slide_archived"] == len(BAD))
    assert_no_name_in(site)


def test_no_line_contains_the_name_of_a_file_in_an_inbox_that_a_reload_added(site, write_slide):
    import signal

    other = site.folder / "other"
    (other / FOLDERS[0]).mkdir(parents=True)
    (other / FOLDERS[0] / BAD[0]).write_bytes(b"\x89PNG and so on")
    site.set("intake", on_failure="move")
    with site.daemon(**KEY) as daemon:
        site.set("intake", inboxes=[str(site.inbox), str(other)])
        daemon.send_signal(signal.SIGHUP)
        site.wait_until(lambda: site.events()["slide_archived"] == 1)
    assert_no_name_in(site)


def test_a_slide_that_hangs_is_reported_by_its_job_only(site, write_slide, tmp_path):
    site.set("intake", stalled_after_s=0.001)
    # Its one batch waits to be filled.
    site.set("pipeline", segmenter_batch=8, batch_wait_s=3600, drain_s=0)
    write_slide(["Sw"], "Li Si.tif", folder=site.inbox)
    with service_manager(tmp_path) as manager, site.daemon(NOTIFY_SOCKET=manager.address):
        site.wait_until(lambda: site.events()["slide_stalled"] > 0)
        reason = site.wait_for_503("/readyz")
        status = manager.wait_for("has made no progress")
    assert re.fullmatch(r"Job 1 has made no progress for \d+ s\.\n", reason)
    assert status.startswith("STATUS=Job 1 has made no progress for ")
    assert "Si" not in status.partition("slides in flight")[0]
