"""Originals that are moved after their result, and crashes during the move."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from captured_logs import capture_logs
from touched_files import rewrite_in_place, touch_only

from her2d.archive.archiver import Archiver
from her2d.archive.safe_move import Original, SourceChangedError, free_name, move
from her2d.intake.destination import destination
from her2d.intake.inbox import Inbox
from her2d.queue.job import JobState
from her2d.queue.operator import cancel, reprocess, retry
from her2d.settings import IntakeSettings
from her2d.system import file_identity
from her2d.system.file_identity import FileState, content_hash

CONTENT = b"a scan" * 1000


@pytest.fixture(params=["one file system", "two file systems"])
def archive(request, tmp_path) -> Iterator[Path]:
    if request.param == "one file system":
        yield tmp_path / "archive"
        return
    if not Path("/dev/shm").is_dir() or Path("/dev/shm").stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system at /dev/shm")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        yield Path(other) / "archive"


@pytest.fixture
def settings(folder, archive) -> IntakeSettings:
    return IntakeSettings(
        inboxes=(folder,),
        on_success="move",
        on_failure="move",
        archive=archive,
        quarantine=archive.with_name("quarantine"),
    )


@pytest.fixture
def done(jobs, folder):
    """Make a file whose job has ended as done."""

    def make(name="day/a.tif", content=CONTENT, state=JobState.DONE, *, hashed=False):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        job = jobs.discover(path, folder, FileState.of(path))
        jobs.move(job, state, {"content_hash": content_hash(path)} if hashed else {})
        return jobs.get(job.id)

    return make


def sweep(jobs, settings):
    """Sweep the inbox, and fail if any file is checked."""
    Inbox(jobs, settings, check=lambda _: pytest.fail("a file was checked")).sweep()


def test_a_finished_file_is_moved_to_the_archive_with_its_subfolder(jobs, settings, archive, done):
    job = done()
    Archiver().round(jobs, settings)
    assert (archive / "day" / "a.tif").read_bytes() == CONTENT
    assert not job.path.exists()
    archived = jobs.get(job.id)
    assert archived.archived_path == archive / "day" / "a.tif"
    assert archived.archived_at is not None


def test_a_copy_keeps_its_modification_time(jobs, settings, archive, done):
    before = done().path.stat().st_mtime_ns
    Archiver().round(jobs, settings)
    assert (archive / "day" / "a.tif").stat().st_mtime_ns == before


def test_a_quarantined_file_is_moved_to_the_quarantine_folder(jobs, settings, done):
    done(state=JobState.QUARANTINED)
    Archiver().round(jobs, settings)
    assert (settings.quarantine / "day" / "a.tif").exists()


def test_a_file_that_is_still_settling_stays(jobs, settings, done):
    job = done(state=JobState.SETTLING)
    Archiver().round(jobs, settings)
    assert job.path.exists()


def test_by_default_no_file_is_moved(jobs, done, folder):
    job = done()
    Archiver().round(jobs, IntakeSettings(inboxes=(folder,)))
    assert job.path.exists()
    assert destination(job, IntakeSettings(inboxes=(folder,))) is None


def test_a_file_whose_name_exists_in_the_archive_gets_a_number(jobs, settings, archive, done):
    (archive / "day").mkdir(parents=True)
    (archive / "day" / "a.tif").write_bytes(b"another scan")
    done()
    Archiver().round(jobs, settings)
    assert (archive / "day" / "a.tif").read_bytes() == b"another scan"
    assert (archive / "day" / "a.1.tif").read_bytes() == CONTENT


@pytest.mark.parametrize(("before", "after"), [("a.xml", "a.1.xml"), ("a.tif.xml", "a.1.tif.xml")])
def test_a_sidecar_is_moved_and_renamed_with_its_slide(
    jobs, settings, archive, done, before, after
):
    (archive / "day").mkdir(parents=True)
    (archive / "day" / "a.tif").write_bytes(b"another scan")
    job = done()
    job.path.with_name(before).write_text("<scan/>")
    Archiver().round(jobs, settings.model_copy(update={"sidecar": ".xml"}))
    assert (archive / "day" / after).read_text() == "<scan/>"
    assert list(job.path.parent.iterdir()) == []


def test_a_file_that_changed_after_its_result_is_a_new_scan_and_stays(
    jobs, settings, archive, done
):
    job = done()
    job.path.write_bytes(b"the next scan")
    Archiver().round(jobs, settings)
    assert job.path.read_bytes() == b"the next scan"
    assert jobs.get(job.id).archived_path is None
    assert [path for path in archive.rglob("*") if path.is_file() and path.stat().st_size] == []


@pytest.fixture(params=["a disk", "a share"])
def storage(request, monkeypatch) -> str:
    """What the inbox is on; inodes and change times of the share are not known."""
    if request.param == "a share":
        monkeypatch.setattr(file_identity, "stores_inodes", lambda _device: False)
        monkeypatch.setattr(file_identity, "keeps_change_time", lambda _device: False)
    return request.param


@pytest.mark.usefixtures("storage")
def test_a_file_that_was_rewritten_with_its_time_put_back_is_a_new_scan_and_stays(
    jobs, settings, archive, done
):
    job = done(hashed=True)
    rewrite_in_place(job.path)
    with capture_logs() as logs:
        Archiver().round(jobs, settings)
        Archiver().round(jobs, settings)
    assert job.path.read_bytes() != CONTENT
    assert [path for path in archive.rglob("*") if path.is_file()] == []
    (again,) = jobs.in_state(JobState.SETTLING)
    assert again.path == job.path
    assert [entry["event"] for entry in logs].count("slide_changed_after_result") == 1


@pytest.mark.usefixtures("storage")
def test_a_file_that_was_only_touched_is_moved(jobs, settings, archive, done):
    job = done(hashed=True)
    touch_only(job.path)
    Archiver().round(jobs, settings)
    assert (archive / "day" / "a.tif").read_bytes() == CONTENT
    assert not job.path.exists()


@pytest.mark.usefixtures("storage")
@pytest.mark.parametrize("placed", ["a link", "a folder"])
def test_no_other_file_is_moved_if_its_folder_is_exchanged(
    jobs, settings, archive, done, tmp_path, placed
):
    """The other file has the same name, size and time."""
    job = done(hashed=True)
    day = job.path.parent
    other = tmp_path / "other"
    shutil.copytree(day, other)
    rewrite_in_place(other / "a.tif")
    day.rename(tmp_path / "away")
    if placed == "a link":
        day.symlink_to(other)
    else:
        other.rename(day)
    Archiver().round(jobs, settings)
    assert job.path.read_bytes() != CONTENT
    assert [path for path in archive.rglob("*") if path.is_file()] == []


def test_not_even_the_same_file_is_moved_from_behind_a_link(
    jobs, settings, archive, done, tmp_path
):
    job = done(hashed=True)
    job.path.parent.rename(tmp_path / "away")
    job.path.parent.symlink_to(tmp_path / "away")
    Archiver().round(jobs, settings)
    assert (tmp_path / "away" / "a.tif").read_bytes() == CONTENT
    assert [path for path in archive.rglob("*") if path.is_file()] == []


@pytest.mark.usefixtures("storage")
def test_no_original_is_deleted_that_is_not_the_one_that_was_copied(jobs, settings, archive, done):
    job = done(hashed=True)
    crashed_after_the_copy(jobs, job, settings)
    rewrite_in_place(job.path)
    Archiver().round(jobs, settings)
    assert job.path.read_bytes() != CONTENT
    assert (archive / "day" / "a.tif").read_bytes() == CONTENT
    assert [again.path for again in jobs.in_state(JobState.SETTLING)] == [job.path]


def test_a_file_that_surely_did_not_change_is_not_read_before_it_is_renamed(
    jobs, settings, archive, done, tmp_path, monkeypatch
):
    if archive.parent != tmp_path:
        pytest.skip("a copy reads the file in any case")
    done(hashed=True)
    monkeypatch.setattr(
        "her2d.archive.safe_move.hash_of_open_file", lambda *_, **__: pytest.fail("it was read")
    )
    Archiver().round(jobs, settings)
    assert (archive / "day" / "a.tif").exists()


def test_a_file_whose_path_has_a_newer_job_stays(jobs, settings, folder, done):
    job = done()
    job.path.write_bytes(b"the next scan")
    jobs.discover(job.path, folder, FileState.of(job.path))
    Archiver().round(jobs, settings)
    assert job.path.exists()


def test_a_file_that_was_removed_is_not_looked_for_again(jobs, settings, done):
    job = done()
    job.path.unlink()
    Archiver().round(jobs, settings)
    assert jobs.get(job.id).archived_at is not None


def test_a_file_whose_share_was_unmounted_is_archived_when_it_returns(
    jobs, settings, archive, done, folder, tmp_path
):
    job = done()
    away = folder.rename(tmp_path / "away")
    Archiver().round(jobs, settings)
    away.rename(folder)
    sweep(jobs, settings)
    Archiver().round(jobs, settings)
    assert jobs.get(job.id).archived_path == archive / "day" / "a.tif"
    assert not job.path.exists()
    assert jobs.get(job.id).state is JobState.DONE


def test_a_file_in_an_inbox_within_the_archive_is_tried_once_and_stays(
    jobs, settings, folder, done
):
    settings = settings.model_copy(update={"archive": folder.parent})
    job = done()
    Archiver().round(jobs, settings)
    archived_at = jobs.get(job.id).archived_at
    sweep(jobs, settings)
    assert jobs.get(job.id).archived_at == archived_at is not None


def test_a_file_whose_name_is_not_utf_8_is_tried_once(jobs, settings, folder):
    path = folder / "a\udcff.tif"  # a byte that is not valid UTF-8
    path.write_bytes(CONTENT)
    os.utime(path, (0, 0))
    sweep(jobs, settings)
    Archiver().round(jobs, settings)
    (job,) = jobs.in_state(JobState.QUARANTINED)
    sweep(jobs, settings)
    assert jobs.get(job.id).archived_at == job.archived_at is not None


def test_the_slide_gets_the_new_path(jobs, settings, archive, done):
    job = done()
    jobs.database.execute(
        "insert into slides (id, content_hash, file_name, path, vendor, width, height,"
        " magnification, mpp, first_seen_at)"
        " values (1, 'h', 'a.tif', ?, 'motic', 1, 1, 4, 2.5, '')",
        [str(job.path)],
    )
    jobs.database.execute("update jobs set slide_id = 1")
    Archiver().round(jobs, settings)
    (row,) = jobs.database.query("select path from slides")
    assert row["path"] == str(archive / "day" / "a.tif")


def test_an_archive_that_cannot_be_written_leaves_the_file_and_is_tried_again(
    jobs, settings, archive, done
):
    archive.parent.mkdir(exist_ok=True)
    archive.write_text("a file where the folder should be")
    job = done()
    Archiver().round(jobs, settings)
    assert job.path.exists()
    assert jobs.get(job.id).archived_at is None
    archive.unlink()
    Archiver().round(jobs, settings)
    assert (archive / "day" / "a.tif").exists()


def crashed_after_the_copy(jobs, job, settings) -> Path:
    """Make the state after the copy and before its original is deleted, and return the copy."""
    copy = destination(job, settings)
    copy.parent.mkdir(parents=True)
    shutil.copy2(job.path, copy)
    jobs.database.execute("update jobs set archived_path = ? where id = ?", [str(copy), job.id])
    return copy


def test_files_that_cannot_be_moved_are_counted_until_they_are(
    jobs, settings, archive, done, clock
):
    archive.parent.mkdir(exist_ok=True)
    archive.write_text("a file in the folder's place")
    for number in range(3):
        done(f"day/{number}.tif", content=bytes([number]) * 10)
    archiver = Archiver(clock=clock)
    assert archiver.unmoved == 0
    archiver.round(jobs, settings)
    assert archiver.unmoved == 3
    clock.pass_(60)
    archiver.round(jobs, settings)
    assert archiver.unmoved == 3
    archive.unlink()
    clock.pass_(120)
    archiver.round(jobs, settings)
    assert archiver.unmoved == 0


def test_a_scan_that_replaces_the_original_while_an_interrupted_move_is_completed_stays(
    jobs, settings, done
):
    job = done()
    copy = crashed_after_the_copy(jobs, job, settings)
    calls = count(1)

    def replaced_when_both_were_read() -> None:
        if next(calls) == 3:  # for the file, for its copy, and now for its original
            fresh = job.path.with_name("fresh.part")
            fresh.write_bytes(b"the next scan")
            fresh.replace(job.path)

    sidecar = job.path.with_suffix(".xml")
    sidecar.touch()
    settings = settings.model_copy(update={"sidecar": ".xml"})
    Archiver(replaced_when_both_were_read).round(jobs, settings)
    assert job.path.read_bytes() == b"the next scan"
    assert sidecar.exists()
    assert jobs.get(job.id).archived_path == copy
    assert jobs.get(job.id).archived_at is not None


def test_a_copy_completed_before_a_crash_is_recorded_though_a_new_scan_has_the_old_name(
    jobs, settings, folder, done
):
    job = done()
    copy = crashed_after_the_copy(jobs, job, settings)
    digest = content_hash(copy)
    jobs.database.execute("update jobs set content_hash = ? where id = ?", [digest, job.id])
    job.path.write_bytes(b"the next scan")
    jobs.discover(job.path, folder, FileState.of(job.path))
    Archiver().round(jobs, settings)
    assert job.path.read_bytes() == b"the next scan"
    assert jobs.get(job.id).archived_path == copy


class _StopError(Exception):
    """Raised by `on_progress` to interrupt a round."""


def test_a_move_that_is_stopped_at_any_call_of_on_progress_is_completed_by_the_next_round(
    jobs, settings, archive, folder, done
):
    content = CONTENT * 1000  # some MiB
    for stop_call in range(1, 100):
        job = done(content=content + bytes(stop_call))
        calls = count(1)

        def stop_at(last=stop_call, calls=calls) -> None:
            if next(calls) == last:
                raise _StopError

        stopped = False
        try:
            Archiver(stop_at).round(jobs, settings)
        except _StopError:
            stopped = True
        Archiver().round(jobs, settings)
        assert not job.path.exists()
        found = [path for path in archive.rglob("*") if path.is_file()]
        assert [path.relative_to(archive) for path in found] == [Path("day/a.tif")], stop_call
        assert found[0].read_bytes() == content + bytes(stop_call)
        found[0].unlink()
        if not stopped:
            return
    raise AssertionError("it never ended")


@pytest.mark.parametrize("archive", ["two file systems"], indirect=True)
def test_on_progress_is_called_for_every_mebibyte_of_a_copy(jobs, settings, done):
    done(content=bytes(3 << 20))
    calls = count()
    Archiver(lambda: next(calls)).round(jobs, settings)
    # For the file, its copy, reading that back, and before the original is deleted.
    assert next(calls) == 1 + 3 + 3 + 1


@pytest.mark.parametrize("archive", ["two file systems"], indirect=True)
@pytest.mark.parametrize("taken", ["changed", "another job's", "gone"])
def test_a_move_that_cannot_be_completed_leaves_nothing_in_the_archive(
    jobs, settings, archive, folder, done, taken
):
    job = done(content=bytes(3 << 20))
    calls = count(1)

    def stop_during_the_copy() -> None:
        if next(calls) == 3:
            raise _StopError

    with pytest.raises(_StopError):
        Archiver(stop_during_the_copy).round(jobs, settings)
    # The empty file that reserves the name, and the part.
    assert len([path for path in archive.rglob("*") if path.is_file()]) == 2
    if taken == "gone":
        job.path.unlink()
    else:
        job.path.write_bytes(b"the next scan")
    if taken == "another job's":
        jobs.discover(job.path, folder, FileState.of(job.path))
    Archiver().round(jobs, settings)
    assert [path for path in archive.rglob("*") if path.is_file()] == []
    assert jobs.get(job.id).archived_path is None


def test_a_different_file_with_the_reserved_name_stays(jobs, settings, archive, done):
    job = done()
    copy = crashed_after_the_copy(jobs, job, settings)
    copy.write_bytes(b"a different file")
    job.path.write_bytes(b"the next scan")
    Archiver().round(jobs, settings)
    assert copy.read_bytes() == b"a different file"


def test_leftovers_in_an_unreadable_archive_do_not_keep_a_file_from_a_new_archive(
    jobs, settings, archive, done
):
    job = done()
    copy = crashed_after_the_copy(jobs, job, settings)
    shutil.rmtree(archive)
    archive.touch()  # so that leftovers in it cannot be accessed
    elsewhere = settings.archive.with_name("elsewhere")
    Archiver().round(jobs, settings.model_copy(update={"archive": elsewhere}))
    assert jobs.get(job.id).archived_path == elsewhere / copy.relative_to(archive)


def test_a_name_as_long_as_the_file_system_allows_is_copied(jobs, settings, archive, done):
    job = done("day/" + "a" * 251 + ".tif")
    Archiver().round(jobs, settings)
    assert (archive / "day" / job.path.name).read_bytes() == CONTENT


@pytest.fixture
def blocked(settings, archive) -> Path:
    """A file where the archive's folder `blocked` should be, so that no file can be moved there."""
    archive.mkdir(parents=True)
    (archive / "blocked").touch()
    return archive / "blocked"


def failed_moves(log) -> int:
    """Count the moves that failed."""
    return sum(line["event"] == "slide_not_archived" for line in log)


def test_a_hundred_files_that_cannot_be_moved_do_not_delay_the_next(jobs, settings, blocked, done):
    for number in range(100):
        done(f"blocked/{number}.tif")
    job = done("day/a.tif")
    archiver = Archiver(clock=lambda: 0.0)
    for _ in range(2):
        archiver.round(jobs, settings)
    assert jobs.get(job.id).archived_at is not None


def test_a_file_that_cannot_be_moved_is_tried_again_after_1_2_4_minutes_and_finally_every_hour(
    jobs, settings, blocked, done, clock
):
    done("blocked/a.tif")
    archiver = Archiver(clock=clock)
    with capture_logs() as log:
        archiver.round(jobs, settings)
        for failures, wait in enumerate([60, 120, 240, 480, 960, 1920, 3600, 3600], start=1):
            clock.pass_(wait - 1)
            archiver.round(jobs, settings)
            assert failed_moves(log) == failures
            clock.pass_(1)
            archiver.round(jobs, settings)
            assert failed_moves(log) == failures + 1


def test_after_a_round_without_failures_the_next_failure_is_tried_again_after_a_minute(
    jobs, settings, blocked, done, clock
):
    job = done("blocked/a.tif")
    archiver = Archiver(clock=clock)
    for _ in range(5):
        archiver.round(jobs, settings)
        clock.pass_(3600)
    job.path.unlink()
    archiver.round(jobs, settings)
    done("blocked/b.tif")
    with capture_logs() as log:
        archiver.round(jobs, settings)
        clock.pass_(60)
        archiver.round(jobs, settings)
    assert failed_moves(log) == 2


def test_with_new_settings_failed_moves_are_tried_at_once(jobs, settings, blocked, done, clock):
    job = done("blocked/a.tif")
    archiver = Archiver(clock=clock)
    archiver.round(jobs, settings)
    elsewhere = settings.archive.with_name("elsewhere")
    archiver.round(jobs, settings.model_copy(update={"archive": elsewhere}))
    assert jobs.get(job.id).archived_path == elsewhere / "blocked" / "a.tif"


def test_the_file_of_a_job_that_is_queued_again_during_the_round_is_not_moved(
    jobs, settings, archive, done
):
    done("day/a.tif", content=b"first")
    later = done("day/b.tif", state=JobState.QUARANTINED)
    calls = count(1)

    def retried_while_the_first_is_moved() -> None:
        if next(calls) == 1:
            retry(jobs, later.id)

    Archiver(retried_while_the_first_is_moved).round(jobs, settings)
    assert later.path.exists()
    assert jobs.get(later.id).archived_at is None


@pytest.mark.parametrize("archive", ["two file systems"], indirect=True)
@pytest.mark.parametrize("at_call", [3, 6, 8])
@pytest.mark.parametrize("again", ["retried", "reprocessed"])
def test_a_file_that_is_queued_again_while_it_is_copied_stays_and_leaves_no_copy(
    jobs, settings, archive, done, again, at_call
):
    state = JobState.DONE if again == "reprocessed" else JobState.QUARANTINED
    job = done(content=bytes(3 << 20), state=state)
    calls = count(1)

    def queued_again() -> None:
        if next(calls) == at_call:
            if again == "retried":
                retry(jobs, job.id)
            else:
                reprocess(jobs, "another bundle")

    Archiver(queued_again).round(jobs, settings)
    assert next(calls) > at_call
    assert job.path.exists()
    assert [path for path in archive.parent.rglob("*") if path.is_file()] == []
    (waiting,) = jobs.in_state(JobState.QUEUED)
    assert (waiting.path, waiting.archived_path, waiting.archived_at) == (job.path, None, None)


@pytest.mark.parametrize("again", ["retried", "reprocessed", "retried and vanished"])
def test_a_job_that_is_queued_again_during_the_move_gets_the_new_path(
    jobs, settings, archive, done, monkeypatch, again
):
    job = done(state=JobState.DONE if again == "reprocessed" else JobState.QUARANTINED)

    def queued_again(*arguments, **named) -> None:
        move(*arguments, **named)
        if again == "reprocessed":
            reprocess(jobs, "another bundle")
        else:
            retry(jobs, job.id)
        if again == "retried and vanished":
            jobs.mark_vanished(jobs.claim())

    monkeypatch.setattr("her2d.archive.archiver.move", queued_again)
    Archiver().round(jobs, settings)
    (waiting,) = jobs.in_state(JobState.QUEUED)
    assert waiting.path.read_bytes() == CONTENT
    assert waiting.path.is_relative_to(archive.parent)


def test_an_interrupted_move_is_not_completed_if_the_file_was_queued_again(jobs, settings, done):
    crashed_after_the_copy(jobs, done(), settings)
    (again,) = reprocess(jobs, "another bundle")
    Archiver().round(jobs, settings)
    assert jobs.get(again.id).path.exists()


def test_an_archived_original_stays_in_the_archive_if_processing_it_again_fails(
    jobs, settings, archive, done
):
    done()
    Archiver().round(jobs, settings)
    (again,) = reprocess(jobs, "another bundle")
    jobs.quarantine(again, "It cannot be read any more.")
    Archiver().round(jobs, settings)
    assert (archive / "day" / "a.tif").exists()
    assert retry(jobs, again.id).path == archive / "day" / "a.tif"


def test_the_file_of_a_cancelled_job_stays_where_it_is(jobs, settings, done):
    done()
    Archiver().round(jobs, settings)
    (again,) = reprocess(jobs, "another bundle")
    cancel(jobs, again.id)
    Archiver().round(jobs, settings)
    assert again.path.exists()


def test_no_file_is_moved_to_an_archive_that_links_into_the_inbox(jobs, folder, tmp_path, done):
    (folder / "old").mkdir()
    (tmp_path / "link").symlink_to(folder / "old")
    settings = IntakeSettings(inboxes=(folder,), on_success="move", archive=tmp_path / "link")
    job = done()
    with capture_logs() as logs:
        Archiver().round(jobs, settings)
    assert job.path.exists()
    (failure,) = [entry for entry in logs if entry["event"] == "slide_not_archived"]
    assert f"in the inbox {folder}, where it would be found" in failure["reason"]


def test_files_are_moved_to_an_archive_below_an_inbox_that_is_a_link(jobs, folder, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    inbox = tmp_path / "link"
    settings = IntakeSettings(inboxes=(inbox,), on_success="move", archive=inbox / "archive")
    (inbox / "a.tif").write_bytes(CONTENT)
    job = jobs.discover(inbox / "a.tif", inbox, FileState.of(inbox / "a.tif"))
    jobs.move(job, JobState.DONE, {})
    Archiver().round(jobs, settings)
    assert (inbox / "archive" / "a.tif").exists()


def test_free_names_count_up(tmp_path):
    assert free_name(tmp_path / "a.tif").name == "a.tif"
    (tmp_path / "a.tif").touch()
    (tmp_path / "a.1.tif").touch()
    assert free_name(tmp_path / "a.tif").name == "a.2.tif"


def test_a_link_is_never_moved(tmp_path):
    real = tmp_path / "real.tif"
    real.write_bytes(CONTENT)
    link = tmp_path / "link.tif"
    link.symlink_to(real)
    with pytest.raises(SourceChangedError):
        move(Original(link, FileState.of(link)), tmp_path / "archive" / "link.tif")
    assert real.exists()


class _Crash(BaseException):
    """Ends a function as kill -9 ends a process."""


def crash_at(call: int):
    """Return a profiler that raises at the n-th call into C, such as a system call or SQLite."""
    calls = 0

    def profile(frame, event, _argument):
        nonlocal calls
        if event == "c_call" and frame.f_globals["__name__"].startswith(("her2d.", "sqlite_utils")):
            calls += 1
            if calls == call:
                sys.setprofile(None)
                raise _Crash

    return profile


def test_a_crash_at_any_moment_leaves_the_file_complete_in_one_place(
    jobs, settings, archive, folder, done
):
    for call in range(1, 1000):
        shutil.rmtree(archive, ignore_errors=True)
        jobs.database.execute("delete from events")
        jobs.database.execute("delete from jobs")
        job = done()
        crashed = False
        sys.setprofile(crash_at(call))
        try:
            Archiver().round(jobs, settings)
        except _Crash:
            crashed = True
        finally:
            sys.setprofile(None)
            jobs.database.conn.rollback()  # as at the end of a process
        whole = [
            path
            for path in (*folder.rglob("*.tif"), *archive.rglob("*.tif"))
            if path.is_file() and path.read_bytes() == CONTENT
        ]
        assert whole, f"lost at call {call}"
        Archiver().round(jobs, settings)
        found = [path for path in archive.rglob("*") if path.is_file()]
        assert [path.relative_to(archive) for path in found] == [Path("day/a.tif")], call
        assert found[0].read_bytes() == CONTENT
        assert not job.path.exists()
        assert jobs.get(job.id).archived_at is not None
        if not crashed:
            assert call > 30
            return
    raise AssertionError("it never ended")
