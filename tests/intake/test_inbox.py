"""A folder -> the queue."""

import os

import pytest

from her2d.intake import Completeness, JobState, Verdict


def states(jobs):
    return [job.state for job in jobs.in_state()]


def test_a_file_is_queued_once_it_has_been_still_and_is_complete(inbox, jobs, folder, clock):
    (folder / "a.tif").write_bytes(b"scan")
    inbox.sweep()
    inbox.settle()
    assert states(jobs) == [JobState.SETTLING]
    clock.pass_(10)
    inbox.settle()
    assert states(jobs) == [JobState.QUEUED]


def test_a_growing_file_is_not_even_checked(inbox, jobs, folder, clock, check):
    path = folder / "a.tif"
    for size in range(1, 6):
        path.write_bytes(b"x" * size)
        inbox.sweep()
        clock.pass_(9)
        inbox.settle()
    assert check.asked == []
    assert jobs.in_state(JobState.SETTLING)[0].size == 5


def test_a_still_but_incomplete_file_is_waited_for(inbox, jobs, folder, clock, check):
    check.verdict = Verdict(Completeness.INCOMPLETE, "It ends early.")
    (folder / "a.tif").write_bytes(b"scan")
    inbox.sweep()
    for _ in range(20):
        inbox.settle()
        clock.pass_(10)
    assert states(jobs) == [JobState.SETTLING]
    check.verdict = Verdict(Completeness.COMPLETE)
    inbox.settle()
    assert states(jobs) == [JobState.QUEUED]


def test_a_file_that_stays_incomplete_is_quarantined_and_taken_up_if_it_completes(
    inbox, jobs, folder, clock, check
):
    check.verdict = Verdict(Completeness.INCOMPLETE, "It ends early.")
    path = folder / "a.tif"
    path.write_bytes(b"sc")
    inbox.sweep()
    inbox.settle()
    clock.pass_(3601)
    inbox.settle()
    assert states(jobs) == [JobState.QUARANTINED]
    assert jobs.in_state()[0].reason == "The file stayed incomplete: It ends early."
    check.verdict = Verdict(Completeness.COMPLETE)
    path.write_bytes(b"scan")
    inbox.sweep()
    inbox.settle()
    clock.pass_(10)
    inbox.settle()
    assert states(jobs) == [JobState.QUARANTINED, JobState.QUEUED]


def test_a_broken_file_is_quarantined_with_its_reason(inbox, jobs, folder, clock, check):
    check.verdict = Verdict(Completeness.BROKEN, "This is a PNG.")
    (folder / "a.tif").write_bytes(b"png")
    inbox.sweep()
    inbox.settle()
    clock.pass_(10)
    inbox.settle()
    (job,) = jobs.in_state()
    assert (job.state, job.reason) == (JobState.QUARANTINED, "This is a PNG.")


def test_a_file_removed_while_settling_has_vanished(inbox, jobs, folder):
    path = folder / "a.tif"
    path.write_bytes(b"scan")
    inbox.sweep()
    path.unlink()
    inbox.settle()
    assert states(jobs) == [JobState.VANISHED]


def test_many_looks_at_one_file_are_one_job(inbox, jobs, folder):
    path = folder / "a.tif"
    path.write_bytes(b"scan")
    for _ in range(5):
        inbox.look(path)
        inbox.sweep()
    assert len(jobs.in_state()) == 1


def test_a_finished_file_is_not_taken_again_until_it_changes(inbox, jobs, folder):
    path = folder / "a.tif"
    path.write_bytes(b"scan")
    inbox.sweep()
    jobs.quarantine(jobs.in_state()[0].id, "No.")
    inbox.sweep()
    assert len(jobs.in_state()) == 1
    path.write_bytes(b"another scan")
    inbox.sweep()
    assert states(jobs) == [JobState.QUARANTINED, JobState.SETTLING]


def test_subfolders_are_searched(inbox, jobs, folder):
    (folder / "2026" / "11").mkdir(parents=True)
    (folder / "2026" / "11" / "a.TIFF").write_bytes(b"scan")
    inbox.sweep()
    assert [job.path.name for job in jobs.in_state()] == ["a.TIFF"]


def test_what_is_no_scan_is_left_alone(inbox, jobs, folder, tmp_path):
    (folder / "notes.txt").write_text("x")
    (folder / ".a.tif.part").write_bytes(b"x")
    (folder / ".hidden.tif").write_bytes(b"x")
    (folder / "directory.tif").mkdir()
    os.mkfifo(folder / "fifo.tif")
    outside = tmp_path / "outside.tif"
    outside.write_bytes(b"x")
    (folder / "link.tif").symlink_to(outside)
    inbox.sweep()
    inbox.look(outside)
    assert jobs.in_state() == []


def test_a_missing_inbox_is_survived_and_found_when_it_returns(inbox, jobs, folder):
    folder.rmdir()
    assert inbox.sweep() == 0
    folder.mkdir()
    (folder / "a.tif").write_bytes(b"scan")
    assert inbox.sweep() == 1
    assert len(jobs.in_state()) == 1


def test_a_clock_that_jumps_on_the_file_does_no_harm(inbox, jobs, folder, clock):
    path = folder / "a.tif"
    path.write_bytes(b"scan")
    os.utime(path, (4e9, 4e9))
    inbox.sweep()
    inbox.settle()
    clock.pass_(10)
    inbox.settle()
    assert states(jobs) == [JobState.QUEUED]


@pytest.mark.parametrize("name", ["a b.tif", "größe.tif", "'; drop table jobs; --.tif"])
def test_any_file_name_is_only_a_name(inbox, jobs, folder, name):
    (folder / name).write_bytes(b"scan")
    inbox.sweep()
    assert [job.path.name for job in jobs.in_state()] == [name]
