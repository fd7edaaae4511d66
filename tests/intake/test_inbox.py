"""Files of an inbox become jobs of the queue."""

import os
import shutil
import time

import pytest
from captured_logs import capture_logs
from touched_files import rewrite_in_place

from her2d.intake.discovery import MOST_LEVELS
from her2d.intake.inbox import Inbox
from her2d.intake.settling import Completeness, Settledness, WhenOverdue
from her2d.queue.job import BACKFILL, NEW_SCAN, Job, JobState
from her2d.settings import IntakeSettings
from her2d.system.file_identity import FileState


def states(jobs):
    return [job.state for job in jobs.in_state()]


def names(jobs):
    return sorted(job.path.name for job in jobs.in_state())


def test_a_file_is_queued_once_it_is_unchanged_for_settle_s_and_complete(
    inbox, jobs, folder, settle
):
    (folder / "a.tif").write_bytes(b"scan")
    inbox.sweep()
    settle(9)
    assert states(jobs) == [JobState.SETTLING]
    settle(2)
    assert states(jobs) == [JobState.QUEUED]


def test_the_structure_of_a_growing_file_is_not_checked(inbox, jobs, folder, settle, check):
    path = folder / "a.tif"
    for size in range(1, 6):
        path.write_bytes(b"x" * size)
        inbox.sweep()
        settle(8)
    assert check.checked == []
    assert jobs.in_state(JobState.SETTLING)[0].size == 5


def test_a_file_that_is_rewritten_with_its_time_put_back_settles_anew(inbox, jobs, folder, settle):
    path = folder / "a.tif"
    path.write_bytes(b"scan")
    inbox.sweep()
    for _ in range(3):
        settle(6)
        rewrite_in_place(path)
    settle(6)
    assert states(jobs) == [JobState.SETTLING]
    settle(20)
    (job,) = jobs.in_state()
    assert (job.state, job.file_state) == (JobState.QUEUED, FileState.of(path))


def test_an_unchanged_but_incomplete_file_is_waited_for(inbox, jobs, folder, settle, check):
    check.settledness = Settledness(Completeness.INCOMPLETE, "ends early")
    (folder / "a.tif").write_bytes(b"scan")
    inbox.sweep()
    settle(200)
    assert states(jobs) == [JobState.SETTLING]
    assert jobs.in_state()[0].reason == "The file stays incomplete: it ends early."
    assert jobs.database.table("events").count_where("name = 'overdue'") == 0
    check.settledness = Settledness(Completeness.COMPLETE)
    settle(11)
    assert states(jobs) == [JobState.QUEUED]


def test_a_scanner_that_pauses_for_minutes_between_strips_is_waited_for(
    inbox, jobs, folder, settle, check
):
    check.settledness = Settledness(Completeness.INCOMPLETE, "ends early")
    path = folder / "a.tif"
    for strips in range(1, 5):
        path.write_bytes(b"strip" * strips)
        inbox.sweep()
        settle(600)
    assert states(jobs) == [JobState.SETTLING]
    assert jobs.in_state()[0].overdue_at is None


def test_a_file_that_stays_incomplete_is_reported_and_queued_when_it_is_complete(
    inbox, jobs, folder, settle, clock, check
):
    check.settledness = Settledness(Completeness.INCOMPLETE, "ends early")
    path = folder / "a.tif"
    path.write_bytes(b"sc")
    inbox.sweep()
    settle(11)
    clock.pass_(3600)
    settle(11)
    (job,) = jobs.in_state()
    assert job.state is JobState.SETTLING
    assert job.overdue_at is not None
    assert job.reason == "The file stays incomplete: it ends early."
    check.settledness = Settledness(Completeness.COMPLETE)
    path.write_bytes(b"scan")
    settle(25)
    (job,) = jobs.in_state()
    assert (job.state, job.reason, job.overdue_at) == (JobState.QUEUED, None, None)


def cut_short(when_overdue):
    return Settledness(Completeness.INCOMPLETE, "is cut short", when_overdue)


def test_a_file_that_can_be_read_in_part_is_queued_as_it_is_after_incomplete_after_s(
    inbox, jobs, folder, settle, clock, check
):
    check.settledness = cut_short(WhenOverdue.TAKE)
    (folder / "a.tif").write_bytes(b"sc")
    inbox.sweep()
    settle(200)
    (job,) = jobs.in_state()
    assert (job.state, job.reason) == (
        JobState.SETTLING,
        "The file stays incomplete: it is cut short.",
    )
    clock.pass_(3600)
    settle(11)
    (job,) = jobs.in_state()
    assert (job.state, job.overdue_at) == (JobState.QUEUED, None)


def test_a_file_without_a_readable_part_is_quarantined_after_incomplete_after_s(
    inbox, jobs, folder, settle, clock, check
):
    check.settledness = cut_short(WhenOverdue.QUARANTINE)
    path = folder / "a.tif"
    path.write_bytes(b"sc")
    inbox.sweep()
    settle(200)
    assert states(jobs) == [JobState.SETTLING]
    clock.pass_(3600)
    settle(11)
    (job,) = jobs.in_state()
    assert (job.state, job.reason) == (
        JobState.QUARANTINED,
        "The file stays incomplete: it is cut short.",
    )
    path.write_bytes(b"scan")
    check.settledness = Settledness(Completeness.COMPLETE)
    clock.pass_(60)
    inbox.sweep()
    settle(25)
    assert states(jobs) == [JobState.QUARANTINED, JobState.QUEUED]


@pytest.mark.parametrize("when_overdue", [WhenOverdue.TAKE, WhenOverdue.QUARANTINE])
def test_a_file_that_still_grows_is_waited_for_however_slowly_it_grows(
    inbox, jobs, folder, settle, clock, check, when_overdue
):
    check.settledness = cut_short(when_overdue)
    path = folder / "a.tif"
    for size in range(1, 6):
        path.write_bytes(b"x" * size)
        inbox.sweep()
        settle(11)
        clock.pass_(3500)
        settle(1)
    assert states(jobs) == [JobState.SETTLING]


def test_a_file_that_can_be_read_in_part_still_needs_its_sidecar(jobs, folder, clock, check):
    settings = IntakeSettings(inboxes=(folder,), sidecar=".xml", incomplete_after_s=20)
    inbox = Inbox(jobs, settings, check, clock)
    check.settledness = cut_short(WhenOverdue.TAKE)
    (folder / "a.tif").write_bytes(b"sc")
    inbox.sweep()
    for _ in range(50):
        inbox.settle()
        clock.pass_(1)
    (job,) = jobs.in_state()
    assert (job.state, job.overdue_at is not None) == (JobState.SETTLING, True)
    assert job.reason == "The file's sidecar a.xml has not arrived."


def test_a_delay_is_reported_once(inbox, jobs, folder, settle, clock, check):
    check.settledness = Settledness(Completeness.INCOMPLETE, "ends early")
    (folder / "a.tif").write_bytes(b"sc")
    inbox.sweep()
    settle(11)
    clock.pass_(3600)
    settle(100)
    assert jobs.database.table("events").count_where("name = 'overdue'") == 1


def test_a_file_that_cannot_be_opened_is_queued_when_it_can_be_though_it_never_changed(
    inbox, jobs, folder, settle, clock, check
):
    check.settledness = Settledness(Completeness.INCOMPLETE, "cannot be opened: Permission denied")
    (folder / "a.tif").write_bytes(b"scan")
    inbox.sweep()
    settle(11)
    clock.pass_(9999)
    settle(11)
    check.settledness = Settledness(Completeness.COMPLETE)
    settle(11)
    assert states(jobs) == [JobState.QUEUED]


def test_a_broken_file_is_quarantined_with_its_reason(inbox, jobs, folder, settle, check):
    check.settledness = Settledness(Completeness.BROKEN, "This is a PNG.")
    (folder / "a.tif").write_bytes(b"png")
    inbox.sweep()
    settle(11)
    (job,) = jobs.in_state()
    assert (job.state, job.reason) == (JobState.QUARANTINED, "This is a PNG.")


def test_a_file_that_is_removed_while_it_settles_has_vanished(inbox, jobs, folder):
    path = folder / "a.tif"
    path.write_bytes(b"scan")
    inbox.sweep()
    path.unlink()
    inbox.settle()
    assert states(jobs) == [JobState.VANISHED]


def test_a_file_that_settles_in_the_archive_does_not_vanish_with_its_share(
    inbox, jobs, folder, settle, tmp_path
):
    path = tmp_path / "archive" / "a.tif"
    job = jobs.discover(path, folder, FileState(0, 4, 20))
    inbox.settle()
    assert states(jobs) == [JobState.SETTLING]
    path.parent.mkdir()
    path.write_bytes(b"scan")
    settle(25)
    assert jobs.get(job.id).state is JobState.QUEUED


def test_a_file_that_vanished_with_its_share_is_queued_when_the_share_returns(
    inbox, jobs, folder, settle, clock, tmp_path
):
    path = folder / "a.tif"
    path.write_bytes(b"scan")
    inbox.sweep()
    folder.rename(tmp_path / "away")
    settle(1)
    assert states(jobs) == [JobState.VANISHED]
    (tmp_path / "away").rename(folder)
    clock.pass_(60)
    inbox.sweep()
    settle(11)
    assert states(jobs) == [JobState.QUEUED]


def test_a_file_that_is_found_several_times_has_one_job(inbox, jobs, folder, clock):
    path = folder / "a.tif"
    path.write_bytes(b"scan")
    for _ in range(5):
        inbox.look_at([path, path])
        clock.pass_(60)
        inbox.sweep()
    assert len(jobs.in_state()) == 1


def test_a_finished_file_gets_no_new_job_until_it_changes(inbox, jobs, folder, clock):
    path = folder / "a.tif"
    path.write_bytes(b"scan")
    inbox.sweep()
    jobs.quarantine(jobs.in_state()[0], "No.")
    clock.pass_(60)
    inbox.sweep()
    assert len(jobs.in_state()) == 1
    path.write_bytes(b"another scan")
    clock.pass_(60)
    inbox.sweep()
    assert states(jobs) == [JobState.QUARANTINED, JobState.SETTLING]


def test_another_file_with_the_same_name_size_and_time_is_a_new_slide(inbox, jobs, folder, clock):
    path = folder / "a.tif"
    path.write_bytes(b"scan")
    inbox.sweep()
    jobs.quarantine(jobs.in_state()[0], "No.")
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    other = folder / "other"
    other.write_bytes(b"SCAN")
    os.utime(other, ns=times)
    other.replace(path)
    clock.pass_(60)
    inbox.sweep()
    assert states(jobs) == [JobState.QUARANTINED, JobState.SETTLING]


def test_subfolders_are_searched(inbox, jobs, folder):
    (folder / "2026" / "11").mkdir(parents=True)
    (folder / "2026" / "11" / "a.TIFF").write_bytes(b"scan")
    inbox.sweep()
    assert names(jobs) == ["a.TIFF"]


def test_a_folder_that_an_event_names_is_searched(inbox, jobs, folder):
    inbox.sweep()
    (folder / "moved" / "in").mkdir(parents=True)
    (folder / "moved" / "in" / "a.tif").write_bytes(b"scan")
    inbox.look_at([folder / "moved"])
    inbox.sweep()
    assert names(jobs) == ["a.tif"]


def test_a_folder_nested_as_deep_as_is_allowed_is_searched(inbox, jobs, folder):
    deep = os.open(folder, os.O_RDONLY)
    for _ in range(MOST_LEVELS):
        os.mkdir("d", dir_fd=deep)
        below = os.open("d", os.O_RDONLY, dir_fd=deep)
        os.close(deep)
        deep = below
    os.close(os.open("a.tif", os.O_CREAT, dir_fd=deep))
    os.close(deep)
    inbox.sweep()
    assert names(jobs) == ["a.tif"]


def test_files_that_are_not_scans_are_ignored(inbox, jobs, folder, tmp_path):
    (folder / "notes.txt").write_text("x")
    (folder / ".a.tif.part").write_bytes(b"x")
    (folder / ".hidden.tif").write_bytes(b"x")
    (folder / "directory.tif").mkdir()
    os.mkfifo(folder / "fifo.tif")
    outside = tmp_path / "outside.tif"
    outside.write_bytes(b"x")
    inbox.sweep()
    inbox.look_at([outside, folder / "fifo.tif", folder / "directory.tif"])
    assert jobs.in_state() == []


def test_links_are_not_followed_in_or_out_of_the_inbox(inbox, jobs, folder, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a.tif").write_bytes(b"x")
    (folder / "file.tif").symlink_to(outside / "a.tif")
    (folder / "folder").symlink_to(outside)
    (folder / "loop").symlink_to(folder)
    (folder / "b.tif").write_bytes(b"x")
    (folder / "inside.tif").symlink_to(folder / "b.tif")
    inbox.sweep()
    inbox.look_at([folder / "file.tif", folder / "folder", folder / "loop"])
    inbox.sweep()
    assert names(jobs) == ["b.tif"]


def test_a_hard_link_is_treated_as_a_file(inbox, jobs, folder):
    (folder / "a.tif").write_bytes(b"x")
    (folder / "b.tif").hardlink_to(folder / "a.tif")
    inbox.sweep()
    assert names(jobs) == ["a.tif", "b.tif"]


def test_ignore_patterns_apply_to_files_and_folders(jobs, folder, clock, check):
    for name in ("a.tif", "test_a.tif", "old/b.tif", "old/deep/c.tif", "new/d.tif"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    settings = IntakeSettings(inboxes=(folder,), ignore=("test_*", "old"))
    inbox = Inbox(jobs, settings, check, clock)
    inbox.sweep()
    inbox.look_at([folder / "old" / "deep" / "c.tif", folder / "test_a.tif", folder / "old"])
    inbox.sweep()
    assert names(jobs) == ["a.tif", "d.tif"]


def test_an_archive_below_the_inbox_is_not_searched(jobs, folder, clock, check):
    (folder / "archive").mkdir()
    (folder / "archive" / "a.tif").write_bytes(b"x")
    settings = IntakeSettings(inboxes=(folder,), archive=folder / "archive")
    inbox = Inbox(jobs, settings, check, clock)
    inbox.sweep()
    inbox.look_at([folder / "archive" / "a.tif"])
    assert jobs.in_state() == []


def test_an_inbox_that_is_missing_at_one_sweep_is_searched_when_it_exists_again(
    inbox, jobs, folder, clock
):
    folder.rmdir()
    inbox.sweep()
    assert inbox.sweeps.unreadable == {folder}
    folder.mkdir()
    (folder / "a.tif").write_bytes(b"scan")
    clock.pass_(60)
    inbox.sweep()
    assert inbox.sweeps.unreadable == set()
    assert len(jobs.in_state()) == 1


@pytest.fixture
def share(tmp_path):
    share = tmp_path / "share"
    share.mkdir()
    return share


@pytest.fixture
def two(jobs, folder, share, clock, check) -> Inbox:
    """The inboxes `share` and `folder`."""
    settings = IntakeSettings(inboxes=(share, folder), incomplete_after_s=3600, sweep_s=100_000)
    return Inbox(jobs, settings, check, clock)


def test_an_inbox_that_was_left_out_is_swept_as_soon_as_it_answers(two, share, folder, jobs):
    for inbox in (share, folder):
        (inbox / f"{inbox.name}.tif").write_bytes(b"scan")
    two.leave_out(frozenset({share}))
    two.sweep()
    two.look_at([share / "share.tif"])
    assert names(jobs) == ["inbox.tif"]
    two.leave_out(frozenset())
    two.sweep()
    assert names(jobs) == ["inbox.tif", "share.tif"]


def test_files_of_an_inbox_that_was_left_out_must_be_unchanged_for_settle_s_again(
    two, share, jobs, clock, check
):
    (share / "a.tif").write_bytes(b"scan")
    two.sweep()
    two.settle()
    two.leave_out(frozenset({share}))
    for _ in range(400):
        clock.pass_(10)
        two.settle()
    (job,) = jobs.in_state(JobState.SETTLING)
    assert job.overdue_at is None  # the scanner did not cause the delay
    two.leave_out(frozenset())
    two.settle()
    assert check.checked == []
    clock.pass_(9)
    two.settle()
    assert states(jobs) == [JobState.SETTLING]
    clock.pass_(2)
    two.settle()
    assert states(jobs) == [JobState.QUEUED]


def test_a_slow_inbox_is_searched_later(two, share, folder, jobs):
    for inbox in (share, folder):
        (inbox / f"{inbox.name}.tif").write_bytes(b"scan")
    two.leave_out(frozenset(), slow=frozenset({share}))
    two.sweep()
    two.look_at([share / "share.tif"])
    two.sweep()
    assert names(jobs) == ["inbox.tif"]
    two.leave_out(frozenset())
    two.sweep()
    assert names(jobs) == ["inbox.tif", "share.tif"]


def test_the_other_inboxes_are_searched_if_one_is_missing(jobs, folder, clock, check, tmp_path):
    settings = IntakeSettings(inboxes=(tmp_path / "absent", folder))
    inbox = Inbox(jobs, settings, check, clock)
    (folder / "a.tif").write_bytes(b"scan")
    inbox.sweep()
    assert names(jobs) == ["a.tif"]


@pytest.mark.parametrize(
    "mtime", [4e9, 9.3e9, 1.4e10, 1.0], ids=["in 2096", "in 2264", "in 2413", "in 1970"]
)
def test_a_file_with_a_wrong_modification_time_is_queued(inbox, jobs, folder, settle, mtime):
    path = folder / "a.tif"
    path.write_bytes(b"scan")
    os.utime(path, (mtime, mtime))
    inbox.sweep()
    settle(11)
    assert states(jobs) == [JobState.QUEUED]


def test_new_scans_have_a_higher_priority_than_files_that_were_old_when_they_were_found(
    inbox, jobs, folder
):
    for name, age_s in (("old.tif", 10 * 86400), ("new.tif", 60), ("future.tif", -86400)):
        (folder / name).write_bytes(b"x")
        os.utime(folder / name, (time.time() - age_s,) * 2)
    inbox.sweep()
    priorities = {job.path.name: job.priority for job in jobs.in_state()}
    assert priorities == {"old.tif": BACKFILL, "new.tif": NEW_SCAN, "future.tif": NEW_SCAN}


@pytest.mark.parametrize("sidecar", ["a.xml", "a.tif.xml"])
def test_a_file_waits_for_its_sidecar(jobs, folder, clock, check, sidecar):
    settings = IntakeSettings(inboxes=(folder,), sidecar=".xml")
    inbox = Inbox(jobs, settings, check, clock)
    (folder / "a.tif").write_bytes(b"scan")
    inbox.sweep()

    def wait():
        for _ in range(40):
            inbox.settle()
            clock.pass_(1)

    wait()
    (folder / sidecar).touch()
    wait()
    assert states(jobs) == [JobState.SETTLING]
    (folder / sidecar).write_text("<done/>")
    wait()
    assert states(jobs) == [JobState.QUEUED]


def test_the_sidecar_of_an_earlier_scan_of_the_same_name_is_not_the_new_ones(
    jobs, folder, clock, check
):
    inbox = Inbox(jobs, IntakeSettings(inboxes=(folder,), sidecar=".xml"), check, clock)

    def scanned(content: bytes) -> Job:
        (folder / "a.tif").write_bytes(content)
        for _ in range(40):
            inbox.sweep()
            inbox.settle()
            clock.pass_(61)
        return jobs.in_state()[-1]

    (folder / "a.xml").write_text("<scan/>")
    first = scanned(b"scan")
    assert first.state is JobState.QUEUED
    jobs.move(first, JobState.DONE, {})
    second = scanned(b"another scan")
    assert second.id != first.id
    assert second.state is JobState.SETTLING
    assert second.reason == (
        "The file's sidecar a.xml has not arrived: the one that is there is that of an earlier scan"
        " with this name."
    )
    os.utime(folder / "a.xml", ns=(1, 1))  # written again with the same content
    assert scanned(b"another scan").state is JobState.QUEUED


def test_a_file_that_settles_again_keeps_its_own_sidecar(jobs, folder, clock, check):
    inbox = Inbox(jobs, IntakeSettings(inboxes=(folder,), sidecar=".xml"), check, clock)
    (folder / "a.tif").write_bytes(b"scan")
    (folder / "a.xml").write_text("<scan/>")
    inbox.sweep()
    for _ in range(2):
        for _ in range(40):
            inbox.settle()
            clock.pass_(1)
        assert states(jobs) == [JobState.QUEUED]
        jobs.settle_again(jobs.claim(), "It changed.")


@pytest.mark.parametrize("name", ["a b.tif", "größe.tif", "'; drop table jobs; --.tif"])
def test_special_characters_in_a_file_name_have_no_effect(inbox, jobs, folder, name):
    (folder / name).write_bytes(b"scan")
    inbox.sweep()
    assert names(jobs) == [name]


def test_a_file_whose_name_is_not_utf_8_is_quarantined_once_with_a_remedy(
    inbox, jobs, folder, clock
):
    (folder / os.fsdecode(b"caf\xe9.tif")).touch()
    for _ in range(3):
        inbox.sweep()
        clock.pass_(60)
    (job,) = jobs.in_state()
    assert job.path.name == "caf\\xe9.tif"
    assert job.reason == "The file's name is not valid UTF-8: rename it and it is processed."


def test_a_name_that_looks_like_one_with_escaped_bytes_has_a_job_of_its_own(
    inbox, jobs, folder, clock
):
    (folder / os.fsdecode(b"caf\xe9.tif")).write_bytes(b"scan")
    (folder / "caf\\xe9.tif").write_bytes(b"another")
    (folder / "caf\\x5cxe9.tif").write_bytes(b"a third")
    for _ in range(5):
        inbox.sweep()
        clock.pass_(60)
    found = {job.path.name: job for job in jobs.in_state()}
    assert sorted(found) == ["caf\\x5cx5cxe9.tif", "caf\\x5cxe9.tif", "caf\\xe9.tif"]
    assert len(jobs.in_state()) == 3
    assert "contains a backslash" in found["caf\\x5cxe9.tif"].reason
    assert "not valid UTF-8" in found["caf\\xe9.tif"].reason


@pytest.mark.slow
def test_ten_thousand_files_are_queued_in_short_passes_and_opened_one_by_one(
    inbox, jobs, folder, clock, check
):
    for number in range(2500):
        (folder / f"{number}.tif").touch()
    copies = [folder / f"copy{number}" for number in range(3)]
    for copy in copies:
        shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("copy*"))
    passes = 0
    while not inbox.sweep():
        passes += 1
    assert len(jobs.ids_in(JobState.SETTLING)) == 10_000
    while len(jobs.ids_in(JobState.QUEUED)) < 10_000:
        inbox.settle()
        clock.pass_(0.5)
        passes += 1
    assert passes > 10
    assert len(check.checked) == 10_000


FORBIDDEN = Settledness(Completeness.FORBIDDEN, "cannot be read: Permission denied.")


def test_a_file_that_may_not_be_read_is_told_as_that_and_not_as_unfinished(
    inbox, jobs, folder, settle, check
):
    check.settledness = FORBIDDEN
    (folder / "a.tif").write_bytes(b"scan")
    with capture_logs() as log:
        inbox.sweep()
        settle(100)
    (job,) = jobs.in_state(JobState.SETTLING)
    assert job.reason == "a.tif cannot be read: Permission denied."
    told = [line for line in log if line["event"] == "slide_forbidden"]
    assert [(line["level"], line["file"]) for line in told] == [("warning", "a.tif")]
    assert inbox.forbidden == {job.id}


def test_a_file_is_queued_once_it_may_be_read(inbox, jobs, folder, settle, check):
    check.settledness = FORBIDDEN
    (folder / "a.tif").write_bytes(b"scan")
    inbox.sweep()
    settle(100)
    check.settledness = Settledness(Completeness.COMPLETE)
    settle(11)
    assert states(jobs) == [JobState.QUEUED]
    assert jobs.in_state()[0].reason is None
    assert inbox.forbidden == set()
