"""After the result: originals that are moved, and crashes while they are."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from her2d.archive.archiver import Archiver, destination
from her2d.archive.safe_move import SourceChangedError, free_name, move
from her2d.intake.inbox import Inbox
from her2d.queue.job import JobState
from her2d.queue.operator import cancel, reprocess, retry
from her2d.settings import IntakeSettings
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

    def make(name="day/a.tif", content=CONTENT, state=JobState.DONE):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        job = jobs.discover(path, folder, FileState.of(path))
        jobs.move(job, state, {})
        return jobs.get(job.id)

    return make


def sweep(jobs, settings):
    """Find what lies in the inbox; nothing of it is to be processed."""
    Inbox(jobs, settings, check=lambda _: pytest.fail("it was processed")).sweep()


def test_a_finished_file_goes_to_the_archive_with_its_subfolder(jobs, settings, archive, done):
    job = done()
    Archiver().round(jobs, settings)
    assert (archive / "day" / "a.tif").read_bytes() == CONTENT
    assert not job.path.exists()
    filed = jobs.get(job.id)
    assert filed.archived_path == archive / "day" / "a.tif"
    assert filed.archived_at is not None


def test_a_copy_keeps_its_time(jobs, settings, archive, done):
    before = done().path.stat().st_mtime_ns
    Archiver().round(jobs, settings)
    assert (archive / "day" / "a.tif").stat().st_mtime_ns == before


def test_a_quarantined_file_goes_to_quarantine(jobs, settings, done):
    done(state=JobState.QUARANTINED)
    Archiver().round(jobs, settings)
    assert (settings.quarantine / "day" / "a.tif").exists()


def test_a_file_that_is_still_waited_for_stays(jobs, settings, done):
    job = done(state=JobState.SETTLING)
    Archiver().round(jobs, settings)
    assert job.path.exists()


def test_by_default_everything_stays(jobs, done, folder):
    job = done()
    Archiver().round(jobs, IntakeSettings(inboxes=(folder,)))
    assert job.path.exists()
    assert destination(job, IntakeSettings(inboxes=(folder,))) is None


def test_a_taken_name_gets_a_number(jobs, settings, archive, done):
    (archive / "day").mkdir(parents=True)
    (archive / "day" / "a.tif").write_bytes(b"another scan")
    done()
    Archiver().round(jobs, settings)
    assert (archive / "day" / "a.tif").read_bytes() == b"another scan"
    assert (archive / "day" / "a.1.tif").read_bytes() == CONTENT


@pytest.mark.parametrize(("before", "after"), [("a.xml", "a.1.xml"), ("a.tif.xml", "a.1.tif.xml")])
def test_a_sidecar_goes_with_its_slide(jobs, settings, archive, done, before, after):
    (archive / "day").mkdir(parents=True)
    (archive / "day" / "a.tif").write_bytes(b"another scan")
    job = done()
    job.path.with_name(before).write_text("<scan/>")
    Archiver().round(jobs, settings.model_copy(update={"sidecar": ".xml"}))
    assert (archive / "day" / after).read_text() == "<scan/>"
    assert list(job.path.parent.iterdir()) == []


def test_a_file_that_changed_since_is_another_scan_and_stays(jobs, settings, archive, done):
    job = done()
    job.path.write_bytes(b"the next scan")
    Archiver().round(jobs, settings)
    assert job.path.read_bytes() == b"the next scan"
    assert jobs.get(job.id).archived_path is None
    assert [path for path in archive.rglob("*") if path.is_file() and path.stat().st_size] == []


def test_a_file_whose_name_has_a_newer_job_stays(jobs, settings, folder, done):
    job = done()
    job.path.write_bytes(b"the next scan")
    jobs.discover(job.path, folder, FileState.of(job.path))
    Archiver().round(jobs, settings)
    assert job.path.exists()


def test_a_file_that_somebody_took_away_is_done_with(jobs, settings, done):
    job = done()
    job.path.unlink()
    Archiver().round(jobs, settings)
    assert jobs.get(job.id).archived_at is not None


def test_a_file_that_was_away_with_its_share_is_filed_when_it_returns(
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


def test_a_file_that_lies_in_the_archive_already_is_looked_at_once(jobs, settings, folder, done):
    """An archive that the inbox is part of: nothing moves, and no sweep begins it again."""
    settings = settings.model_copy(update={"archive": folder.parent})
    job = done()
    Archiver().round(jobs, settings)
    archived_at = jobs.get(job.id).archived_at
    sweep(jobs, settings)
    assert jobs.get(job.id).archived_at == archived_at is not None


def test_a_file_that_no_path_can_name_is_tried_once(jobs, settings, folder):
    path = folder / "a\udcff.tif"  # a byte that is no UTF-8
    path.write_bytes(CONTENT)
    os.utime(path, (0, 0))
    sweep(jobs, settings)
    Archiver().round(jobs, settings)
    (job,) = jobs.in_state(JobState.QUARANTINED)
    sweep(jobs, settings)
    assert jobs.get(job.id).archived_at == job.archived_at is not None


def test_the_slide_is_known_by_its_new_path(jobs, settings, archive, done):
    job = done()
    jobs.database.execute(
        "insert into slides values (1, 'h', 'a.tif', ?, null, 'motic', 1, 1, 4, 2.5, '')",
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
    """The state between a copy and the removal of its original; returns the copy."""
    copy = destination(job, settings)
    copy.parent.mkdir(parents=True)
    shutil.copy2(job.path, copy)
    jobs.database.execute("update jobs set archived_path = ? where id = ?", [str(copy), job.id])
    return copy


def test_a_scan_that_takes_the_name_while_a_crash_is_mended_stays(jobs, settings, done):
    job = done()
    copy = crashed_after_the_copy(jobs, job, settings)
    beats = count(1)

    def replaced_when_both_were_read() -> None:
        if next(beats) == 3:  # the file, its copy, and now its original
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


def test_a_file_that_got_to_its_place_before_a_crash_is_known_though_its_name_is_taken(
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
    """What whoever files is told by its beat."""


def test_a_stop_at_any_beat_leaves_what_the_next_start_finishes(
    jobs, settings, archive, folder, done
):
    content = CONTENT * 1000  # some MiB
    for beat in range(1, 100):
        job = done(content=content + bytes(beat))
        beats = count(1)

        def stop_at(last=beat, beats=beats) -> None:
            if next(beats) == last:
                raise _StopError

        stopped = False
        try:
            Archiver(stop_at).round(jobs, settings)
        except _StopError:
            stopped = True
        Archiver().round(jobs, settings)
        assert not job.path.exists()
        found = [path for path in archive.rglob("*") if path.is_file()]
        assert [path.relative_to(archive) for path in found] == [Path("day/a.tif")], beat
        assert found[0].read_bytes() == content + bytes(beat)
        found[0].unlink()
        if not stopped:
            return
    raise AssertionError("it never ended")


@pytest.mark.parametrize("archive", ["two file systems"], indirect=True)
def test_every_mebibyte_of_a_copy_is_told(jobs, settings, done):
    done(content=bytes(3 << 20))
    beats = count()
    Archiver(lambda: next(beats)).round(jobs, settings)
    # The file, its copy, reading that back, and before the original goes.
    assert next(beats) == 1 + 3 + 3 + 1


@pytest.mark.parametrize("archive", ["two file systems"], indirect=True)
@pytest.mark.parametrize("taken", ["changed", "another job's", "gone"])
def test_a_file_that_is_not_moved_after_all_leaves_nothing_in_the_archive(
    jobs, settings, archive, folder, done, taken
):
    job = done(content=bytes(3 << 20))
    beats = count(1)

    def stop_amid_the_copy() -> None:
        if next(beats) == 3:
            raise _StopError

    with pytest.raises(_StopError):
        Archiver(stop_amid_the_copy).round(jobs, settings)
    assert len([path for path in archive.rglob("*") if path.is_file()]) == 2  # a name, and a part
    if taken == "gone":
        job.path.unlink()
    else:
        job.path.write_bytes(b"the next scan")
    if taken == "another job's":
        jobs.discover(job.path, folder, FileState.of(job.path))
    Archiver().round(jobs, settings)
    assert [path for path in archive.rglob("*") if path.is_file()] == []
    assert jobs.get(job.id).archived_path is None


def test_what_holds_a_reserved_name_by_now_stays(jobs, settings, archive, done):
    job = done()
    copy = crashed_after_the_copy(jobs, job, settings)
    copy.write_bytes(b"somebody else's")
    job.path.write_bytes(b"the next scan")
    Archiver().round(jobs, settings)
    assert copy.read_bytes() == b"somebody else's"


def test_leftovers_in_an_archive_that_is_out_of_reach_keep_no_file_from_another(
    jobs, settings, archive, done
):
    job = done()
    copy = crashed_after_the_copy(jobs, job, settings)
    shutil.rmtree(archive)
    archive.touch()  # its parts cannot be looked for
    elsewhere = settings.archive.with_name("elsewhere")
    Archiver().round(jobs, settings.model_copy(update={"archive": elsewhere}))
    assert jobs.get(job.id).archived_path == elsewhere / copy.relative_to(archive)


def test_a_name_as_long_as_the_file_system_allows_is_copied(jobs, settings, archive, done):
    job = done("day/" + "a" * 251 + ".tif")
    Archiver().round(jobs, settings)
    assert (archive / "day" / job.path.name).read_bytes() == CONTENT


@pytest.fixture
def ill(settings, archive) -> Path:
    """A file in the archive where the inbox's folder `ill` should go: what lies in that stays."""
    archive.mkdir(parents=True)
    (archive / "ill").touch()
    return archive / "ill"


def tries(log) -> int:
    """How often a file was not filed, of all that was logged."""
    return sum(line["event"] == "file_not_archived" for line in log)


def test_a_hundred_files_that_cannot_be_moved_keep_no_other_waiting(jobs, settings, ill, done):
    for number in range(100):
        done(f"ill/{number}.tif")
    job = done("day/a.tif")
    archiver = Archiver(clock=lambda: 0.0)
    for _ in range(2):
        archiver.round(jobs, settings)
    assert jobs.get(job.id).archived_at is not None


def test_a_file_that_cannot_be_moved_is_tried_after_one_minute_two_four_and_at_last_each_hour(
    jobs, settings, ill, done, clock
):
    done("ill/a.tif")
    archiver = Archiver(clock=clock)
    with capture_logs() as log:
        archiver.round(jobs, settings)
        for times, wait in enumerate([60, 120, 240, 480, 960, 1920, 3600, 3600], start=1):
            clock.pass_(wait - 1)
            archiver.round(jobs, settings)
            assert tries(log) == times
            clock.pass_(1)
            archiver.round(jobs, settings)
            assert tries(log) == times + 1


def test_after_a_pass_without_trouble_the_next_trouble_is_waited_for_a_minute(
    jobs, settings, ill, done, clock
):
    job = done("ill/a.tif")
    archiver = Archiver(clock=clock)
    for _ in range(5):
        archiver.round(jobs, settings)
        clock.pass_(3600)
    job.path.unlink()  # somebody took it away
    archiver.round(jobs, settings)
    done("ill/b.tif")
    with capture_logs() as log:
        archiver.round(jobs, settings)
        clock.pass_(60)
        archiver.round(jobs, settings)
    assert tries(log) == 2


def test_other_settings_are_tried_at_once(jobs, settings, ill, done, clock):
    job = done("ill/a.tif")
    archiver = Archiver(clock=clock)
    archiver.round(jobs, settings)
    elsewhere = settings.archive.with_name("elsewhere")
    archiver.round(jobs, settings.model_copy(update={"archive": elsewhere}))
    assert jobs.get(job.id).archived_path == elsewhere / "ill" / "a.tif"


def test_a_job_that_was_queued_again_meanwhile_is_not_filed(jobs, settings, archive, done):
    done("day/a.tif", content=b"first")
    later = done("day/b.tif", state=JobState.QUARANTINED)
    beats = count(1)

    def retried_while_the_first_is_filed() -> None:
        if next(beats) == 1:
            retry(jobs, later.id)

    Archiver(retried_while_the_first_is_filed).round(jobs, settings)
    assert later.path.exists()
    assert jobs.get(later.id).archived_at is None


@pytest.mark.parametrize("archive", ["two file systems"], indirect=True)
@pytest.mark.parametrize("at_beat", [3, 6, 8])
@pytest.mark.parametrize("again", ["retried", "reprocessed"])
def test_a_file_that_is_wanted_again_while_it_is_copied_stays_and_leaves_no_copy(
    jobs, settings, archive, done, again, at_beat
):
    state = JobState.DONE if again == "reprocessed" else JobState.QUARANTINED
    job = done(content=bytes(3 << 20), state=state)
    beats = count(1)

    def wanted_again() -> None:
        if next(beats) == at_beat:
            if again == "retried":
                retry(jobs, job.id)
            else:
                reprocess(jobs, "another bundle")

    Archiver(wanted_again).round(jobs, settings)
    assert next(beats) > at_beat
    assert job.path.exists()
    assert [path for path in archive.parent.rglob("*") if path.is_file()] == []
    (waiting,) = jobs.in_state(JobState.QUEUED)
    assert (waiting.path, waiting.archived_path, waiting.archived_at) == (job.path, None, None)


@pytest.mark.parametrize("again", ["retried", "reprocessed", "retried and looked for"])
def test_a_file_that_is_wanted_again_as_it_goes_is_looked_for_where_it_is(
    jobs, settings, archive, done, monkeypatch, again
):
    job = done(state=JobState.DONE if again == "reprocessed" else JobState.QUARANTINED)

    def wanted_again(*arguments, **named) -> None:
        move(*arguments, **named)
        if again == "reprocessed":
            reprocess(jobs, "another bundle")
        else:
            retry(jobs, job.id)
        if again == "retried and looked for":
            jobs.vanished(jobs.claim())

    monkeypatch.setattr("her2d.archive.archiver.move", wanted_again)
    Archiver().round(jobs, settings)
    (waiting,) = jobs.in_state(JobState.QUEUED)
    assert waiting.path.read_bytes() == CONTENT
    assert waiting.path.is_relative_to(archive.parent)


def test_a_copy_that_a_crash_left_takes_no_file_from_another_try(jobs, settings, done):
    crashed_after_the_copy(jobs, done(), settings)
    (again,) = reprocess(jobs, "another bundle")
    Archiver().round(jobs, settings)
    assert jobs.get(again.id).path.exists()


def test_an_archived_original_stays_where_it_is_if_processing_it_again_fails(
    jobs, settings, archive, done
):
    done()
    Archiver().round(jobs, settings)
    (again,) = reprocess(jobs, "another bundle")
    cancel(jobs, again.id)
    Archiver().round(jobs, settings)
    assert (archive / "day" / "a.tif").exists()
    assert retry(jobs, again.id).path == archive / "day" / "a.tif"


def test_an_archive_that_a_link_leads_into_the_inbox_gets_nothing(jobs, folder, tmp_path, done):
    (folder / "old").mkdir()
    (tmp_path / "link").symlink_to(folder / "old")
    settings = IntakeSettings(inboxes=(folder,), on_success="move", archive=tmp_path / "link")
    job = done()
    with capture_logs() as logs:
        Archiver().round(jobs, settings)
    assert job.path.exists()
    (told,) = [entry for entry in logs if entry["event"] == "file_not_archived"]
    assert "would be found there again" in told["reason"]


def test_an_archive_below_an_inbox_that_is_a_link_gets_its_files(jobs, folder, tmp_path):
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
        move(link, tmp_path / "archive" / "link.tif", FileState.of(link))
    assert real.exists()


class _Crash(BaseException):
    """What kill -9 is to a process, to a function."""


def crash_at(call: int):
    """A profiler that ends the program at its n-th call into C: a system call, or SQLite."""
    calls = 0

    def profile(frame, event, _argument):
        nonlocal calls
        if event == "c_call" and frame.f_globals["__name__"].startswith(("her2d.", "sqlite_utils")):
            calls += 1
            if calls == call:
                sys.setprofile(None)
                raise _Crash

    return profile


def test_a_crash_at_any_moment_leaves_the_file_whole_in_one_place(
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
            jobs.database.conn.rollback()  # as the end of the process does
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
