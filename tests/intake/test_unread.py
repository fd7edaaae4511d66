"""A file in an inbox that nothing reads is named once."""

from dataclasses import replace

import pytest
from captured_logs import capture_logs
from queue_fixtures import Check, Clock

from her2d.intake.inbox import Inbox
from her2d.queue.job import JobState
from her2d.settings import IntakeSettings
from her2d.slides.formats.unread import explain_unread


class Site:
    """An inbox and the passing of time."""

    def __init__(self, jobs, folder, clock) -> None:
        self.settings = IntakeSettings(inboxes=(folder,), settle_s=10, sweep_s=60)
        self.clock, self.jobs = clock, jobs
        self.inbox = Inbox(jobs, self.settings, Check(), clock, explain=explain_unread)

    def sweeps(self, number: int) -> list[dict]:
        """Pass that many sweeps, and return what was logged."""
        with capture_logs() as logs:
            for _ in range(number):
                while not self.inbox.sweep():
                    pass
                self.inbox.settle()
                self.clock.pass_(61)
        return [entry for entry in logs if entry["event"] == "inbox_file_unread"]

    def unread(self) -> list[str]:
        return [job.path.name for job in self.jobs.in_state(JobState.UNREAD)]

    def apply(self, **changes) -> None:
        self.settings = IntakeSettings(**{**self.settings.model_dump(), **changes})
        self.inbox.apply(self.settings)


@pytest.fixture
def site(jobs, folder, clock: Clock) -> Site:
    return Site(jobs, folder, clock)


def test_it_is_named_once_with_what_to_do(site, folder):
    (folder / "a.ndpi").write_bytes(b"II*\0\x08\0\0\0" + bytes(200))
    (entry,) = site.sweeps(6)
    assert (entry["file"], entry["level"]) == ("a.ndpi", "warning")
    assert entry["reason"] == (
        "It is a TIFF. Add '.ndpi' to [intake] extensions if such files are scans, or '*.ndpi' to"
        " [intake] ignore if they may stay."
    )
    (job,) = site.jobs.in_state(JobState.UNREAD)
    assert (job.path, job.reason) == (folder / "a.ndpi", entry["reason"])


def test_a_daemon_that_starts_again_does_not_name_it_again(site, folder, jobs, clock):
    (folder / "notes.txt").write_text("x")
    assert len(site.sweeps(3)) == 1
    assert Site(jobs, folder, clock).sweeps(3) == []


def test_a_file_that_still_changes_is_not_named(site, folder):
    path = folder / "a.tif.copying"
    for size in range(1, 6):
        path.write_bytes(b"x" * size)
        assert site.sweeps(1) == []
    path.rename(folder / "a.tif")
    assert site.sweeps(3) == []
    assert site.unread() == []


def test_a_log_that_grows_after_it_was_named_is_not_named_again(site, folder):
    path = folder / "scanner.log"
    path.write_text("x")
    assert len(site.sweeps(3)) == 1
    path.write_text("xx")
    assert site.sweeps(4) == []


def test_ignored_files_and_sidecars_are_not_named(site, folder):
    site.apply(sidecar=".XML", ignore=(*site.settings.ignore, "*.log"))
    for name in ("a.xml", "scanner.log", ".hidden", "a.tmp", "Thumbs.db"):
        (folder / name).write_text("x")
    assert site.sweeps(3) == []


def test_a_removed_file_leaves_the_list_and_is_named_when_it_returns(site, folder):
    path = folder / "a.czi"
    path.write_bytes(b"ZISRAWFILE" + bytes(200))
    assert len(site.sweeps(3)) == 1
    path.unlink()
    site.sweeps(3)
    assert site.unread() == []
    path.write_bytes(b"ZISRAWFILE" + bytes(200))
    assert len(site.sweeps(5)) == 1
    assert len(site.jobs.in_state()) == 1


def test_a_file_that_the_settings_now_ignore_leaves_the_list(site, folder):
    (folder / "scanner.log").write_text("x")
    site.sweeps(3)
    site.apply(ignore=("*.log",))
    site.sweeps(1)
    assert site.unread() == []


def test_a_file_that_the_settings_now_take_becomes_a_scan(site, folder):
    (folder / "a.czi").write_bytes(b"ZISRAWFILE" + bytes(200))
    site.sweeps(3)
    site.apply(extensions=(".tif", ".czi"))
    site.sweeps(3)
    (job,) = site.jobs.in_state()
    assert (job.path.name, job.state, job.reason) == ("a.czi", JobState.QUEUED, None)


def test_a_scan_of_several_files_is_named_as_one(site, folder):
    (folder / "a.mrxs").write_bytes(b"\xff\xd8\xff\xe0")
    data = folder / "a"
    data.mkdir()
    for name in ("Slidedat.ini", "Index.dat", "Data0000.dat"):
        (data / name).write_text("x")
    dicom = folder / "b"
    dicom.mkdir()
    for name in ("1.dcm", "2.dcm", "3"):
        (dicom / name).write_bytes(bytes(128) + b"DICM" + bytes(20))
    entries = site.sweeps(8)
    assert sorted(entry["file"] for entry in entries) == ["a.mrxs", "b"]
    reasons = {entry["file"]: entry["reason"] for entry in entries}
    assert reasons["b"] == (
        "It is a DICOM slide, which has several files (all DICOM files of its folder), and only"
        " scans of one file are taken from an inbox; score it with `her2d scan`."
    )
    assert "MIRAX slide" in reasons["a.mrxs"]
    assert {job.path for job in site.jobs.in_state()} == {folder / "a.mrxs", dicom}


def test_motics_own_format_is_named_with_the_way_out(site, folder):
    (folder / "a.mdsx").write_bytes(b"x" * 50)
    (entry,) = site.sweeps(3)
    assert entry["reason"] == (
        "It is a slide in Motic's own format MDSX, which no open library reads; export it as TIFF"
        " with Motic's software."
    )


def test_it_is_never_moved(site, folder):
    from her2d.intake.destination import destination

    (folder / "notes.txt").write_text("x")
    site.sweeps(3)
    (job,) = site.jobs.in_state(JobState.UNREAD)
    moving = site.settings.model_copy(update={"on_success": "move", "on_failure": "move"})
    assert destination(job, moving) is None
    assert destination(replace(job, state=JobState.QUARANTINED), moving) is not None


def test_a_folder_full_of_other_files_is_listed_up_to_a_limit(site, folder, monkeypatch):
    monkeypatch.setattr("her2d.intake.unread.MOST_NAMED", 3)
    for number in range(5):
        (folder / f"{number}.txt").write_text("x")
    with capture_logs() as logs:
        site.sweeps(1)
    assert logs == []
    with capture_logs():
        assert len(site.sweeps(5)) == 3
    assert len(site.unread()) == 3


def test_a_file_whose_name_is_not_utf_8_is_named(site, folder):
    import os

    (folder / os.fsdecode(b"a\xff.txt")).write_text("x")
    assert len(site.sweeps(5)) == 1


def test_a_name_that_looks_like_one_with_escaped_bytes_is_named_too(site, folder):
    import os

    (folder / os.fsdecode(b"a\xff.txt")).write_text("x")
    (folder / "a\\xff.txt").write_text("another")
    assert len(site.sweeps(5)) == 2
    assert sorted(site.unread()) == ["a\\x5cxff.txt", "a\\xff.txt"]
    (folder / "a\\xff.txt").unlink()
    site.sweeps(3)
    assert site.unread() == ["a\\xff.txt"]


def test_an_inbox_that_does_not_answer_keeps_its_list(site, folder):
    path = folder / "notes.txt"
    path.write_text("x")
    site.sweeps(3)
    path.unlink()
    site.inbox.leave_out(frozenset({folder}))
    site.sweeps(4)
    assert site.unread() == ["notes.txt"]
