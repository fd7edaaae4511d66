"""Known files are examined in turns where there are too many to examine them all each time."""

import pytest

from her2d.intake import sweeps
from her2d.intake.inbox import Inbox
from her2d.intake.known_files import KnownFiles, Turns
from her2d.queue.job import JobState
from her2d.settings import IntakeSettings

FILES = 40
MOST = 10


class Examined(Inbox):
    """An inbox that keeps the names of the files that it looked up in the database."""

    names: set[str]

    def _unknown(self, files):
        self.names |= {file.path.name for file in files}
        return super()._unknown(files)

    def after(self, clock, seconds: float) -> set[str]:
        """Return the names that the sweep examines which is due by then."""
        clock.pass_(seconds)
        self.names = set()
        while not self.sweep():
            pass
        return self.names


@pytest.fixture
def crowded(jobs, folder, clock, check, monkeypatch) -> Examined:
    """An inbox of forty quarantined files, of which a sweep and a poll examine about ten."""
    monkeypatch.setattr(sweeps, "_EXAMINED", MOST)
    for number in range(FILES):
        (folder / f"{number}.tif").write_bytes(b"scan")
    inbox = Examined(jobs, IntakeSettings(inboxes=(folder,), sweep_s=60), check, clock)
    assert len(inbox.after(clock, 0)) == FILES
    for job in jobs.in_state():
        jobs.quarantine(job, "No.")
    return inbox


def new_jobs(jobs) -> list[str]:
    return [job.path.name for job in jobs.in_state(JobState.SETTLING)]


def test_a_sweep_examines_only_a_share_and_a_round_examines_every_file(crowded, clock):
    shares = [crowded.after(clock, 60) for _ in range(4)]
    assert all(len(share) < FILES for share in shares)
    assert len(set.union(*shares)) == FILES


def test_a_new_file_is_found_by_the_next_sweep(crowded, clock, folder, jobs):
    (folder / "new.tif").write_bytes(b"scan")
    assert "new.tif" in crowded.after(clock, 60)
    assert new_jobs(jobs) == ["new.tif"]


def test_a_file_that_changed_in_place_is_found_within_a_round(crowded, clock, folder, jobs):
    (folder / "7.tif").write_bytes(b"another scan")
    for _ in range(4):
        crowded.after(clock, 60)
    assert new_jobs(jobs) == ["7.tif"]


def test_a_file_that_an_event_names_is_examined_at_once(crowded, folder, jobs):
    (folder / "7.tif").write_bytes(b"another scan")
    crowded.names = set()
    crowded.look_at([folder / "7.tif"])
    assert new_jobs(jobs) == ["7.tif"]


def test_everything_is_examined_after_events_were_lost(crowded, clock):
    crowded.after(clock, 60)
    crowded.sweeps.request_full_sweep()
    assert len(crowded.after(clock, 0)) == FILES


def test_everything_is_examined_after_the_settings_changed(crowded, clock, folder):
    crowded.after(clock, 60)
    crowded.apply(IntakeSettings(inboxes=(folder,)))
    assert len(crowded.after(clock, 0)) == FILES


def test_a_file_that_left_and_returned_is_examined_as_a_new_one(crowded, clock, folder, tmp_path):
    (folder / "7.tif").rename(tmp_path / "7.tif")
    crowded.after(clock, 60)
    (tmp_path / "7.tif").rename(folder / "7.tif")
    assert "7.tif" in crowded.after(clock, 60)


def test_a_folder_in_the_place_of_a_known_file_is_searched(crowded, clock, folder, jobs):
    (folder / "7.tif").unlink()
    (folder / "7.tif").mkdir()
    (folder / "7.tif" / "new.tif").write_bytes(b"scan")
    crowded.after(clock, 60)
    assert new_jobs(jobs) == ["new.tif"]


def test_a_file_in_the_place_of_a_link_is_found_by_the_next_sweep(crowded, clock, folder, jobs):
    (folder / "new.tif").symlink_to(folder / "7.tif")
    crowded.after(clock, 60)
    (folder / "new.tif").unlink()
    (folder / "new.tif").write_bytes(b"scan")
    crowded.after(clock, 60)
    assert new_jobs(jobs) == ["new.tif"]


def test_files_of_polled_folders_take_turns_as_well(jobs, folder, clock, check, monkeypatch):
    monkeypatch.setattr(sweeps, "_EXAMINED", MOST)
    for number in range(FILES):
        (folder / f"{number}.tif").write_bytes(b"scan")
    settings = IntakeSettings(inboxes=(folder,), watch="poll", sweep_s=10_000, poll_s=10)
    inbox = Examined(jobs, settings, check, clock)
    inbox.after(clock, 0)
    inbox.after(clock, 10)  # the first poll examines everything
    (folder / "new.tif").write_bytes(b"scan")
    shares = [inbox.after(clock, 10) for _ in range(6)]
    assert "new.tif" in shares[0]
    assert all(len(share) < FILES for share in shares)
    assert len(set.union(*shares)) == FILES + 1


@pytest.mark.parametrize("files", [1, 255, 10_000, 10_001, 99_999, 10_000_000])
def test_each_bucket_has_its_turn_whatever_the_number_of_files(clock, files):
    turns, seen, searches = Turns(10_000, clock), set(), 0
    turns.took(turns.begin(), files)
    while len(seen) < 256:
        buckets = turns.begin()
        seen |= {bucket % 256 for bucket in buckets}
        turns.took(buckets, files)
        searches += 1
    assert searches <= min(256, -(-files // 9_000))


def test_the_oldest_look_is_as_old_as_the_round(clock):
    turns = Turns(64, clock)
    turns.took(turns.begin(), 256)
    for _ in range(3):
        clock.pass_(60)
        turns.took(turns.begin(), 256)
    assert clock() - turns.examined_at == 180
    clock.pass_(60)
    turns.took(turns.begin(), 256)
    assert clock() - turns.examined_at == 180


def test_what_is_wanted_during_a_search_is_examined_in_the_next_one(clock):
    """As where events were lost, or a file that was found could not be queued."""
    turns = Turns(10, clock)
    turns.took(turns.begin(), 1000)
    under_way = turns.begin()
    turns.take_all()
    turns.took(under_way, 1000)
    assert turns.all_next
    assert len(turns.begin()) == 256
    turns.took(range(256), 1000)
    assert not turns.all_next


def test_an_interrupted_search_forgets_no_file():
    known = KnownFiles()
    known.begin(range(256))
    known.add("/in/a.tif")
    known.end(everywhere=True)
    known.begin(range(hash("/in/a.tif") % 256 + 1, hash("/in/a.tif") % 256 + 2))
    known.begin(range(hash("/in/a.tif") % 256 + 1, hash("/in/a.tif") % 256 + 2))
    assert not known.is_due("/in/a.tif")


def test_the_next_search_waits_a_hundred_times_as_long_as_one_has_worked(
    jobs, folder, clock, check, monkeypatch
):
    worked = iter(range(10_000))
    monkeypatch.setattr(sweeps.time, "thread_time", lambda: float(next(worked)))
    inbox = Inbox(jobs, IntakeSettings(inboxes=(folder,), sweep_s=1), check, clock)
    inbox.sweep()
    clock.pass_(100)  # the first one is rare, and is waited for less long
    inbox.sweep()
    (folder / "new.tif").write_bytes(b"scan")
    clock.pass_(100)
    inbox.sweep()
    assert new_jobs(jobs) == []
    clock.pass_(1000)
    inbox.sweep()
    assert new_jobs(jobs) == ["new.tif"]


def test_the_newest_job_of_each_path_is_found_without_reading_others(jobs):
    from her2d.queue.store import _NEWEST_OF_EACH

    plan = jobs.database.execute(f"explain query plan {_NEWEST_OF_EACH}", ["[]"]).fetchall()
    steps = [row[3] for row in plan if "jobs" in row[3] or "newest" in row[3]]
    assert steps
    assert not [step for step in steps if step.startswith("SCAN")]
    assert any("jobs_by_path" in step for step in steps)
