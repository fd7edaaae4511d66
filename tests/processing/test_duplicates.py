"""Which file is a slide's, when a second one with the same content turns up."""

from pathlib import Path

import pytest

from her2d.db.connection import open_database
from her2d.processing.duplicates import follow
from her2d.queue.store import JobQueue
from her2d.system.file_identity import FileState

SLIDE, OTHER = "blake2b:aa", "blake2b:bb"


@pytest.fixture
def jobs(tmp_path):
    db = open_database(tmp_path / "her2d.sqlite")
    yield JobQueue(db)
    db.close()


def found(jobs: JobQueue, path: Path, content_hash: str | None):
    """Record that a file was found, whose content is known."""
    job = jobs.refuse(path, FileState(1, 1, 1), "for the test")
    jobs.database.execute("update jobs set content_hash = ? where id = ?", [content_hash, job.id])
    return job


def path_of_slide(jobs: JobQueue) -> str:
    return next(jobs.database.query("select path from slides"))["path"]


@pytest.mark.parametrize(
    ("at_the_old_path", "follows"), [(OTHER, True), (SLIDE, False), (None, False)]
)
def test_a_slide_follows_its_file_where_another_scan_has_taken_its_place(
    jobs, tmp_path, at_the_old_path, follows
):
    old, new = tmp_path / "a.tif", tmp_path / "b.tif"
    old.touch()
    jobs.database.execute(
        "insert into slides (content_hash, file_name, path, vendor, width, height, magnification,"
        " first_seen_at) values (?, 'a.tif', ?, 'motic', 1, 1, 4, '2026')",
        [SLIDE, str(old)],
    )
    found(jobs, old, SLIDE)
    found(jobs, old, at_the_old_path)
    follow(jobs, 1, found(jobs, new, SLIDE), is_within_reach=lambda _: True)
    assert path_of_slide(jobs) == str(new if follows else old)


def test_a_slide_follows_a_file_that_was_moved_only_if_its_old_storage_answers(jobs, tmp_path):
    gone, new = tmp_path / "a.tif", tmp_path / "b.tif"
    jobs.database.execute(
        "insert into slides (content_hash, file_name, path, vendor, width, height, magnification,"
        " first_seen_at) values (?, 'a.tif', ?, 'motic', 1, 1, 4, '2026')",
        [SLIDE, str(gone)],
    )
    job = found(jobs, new, SLIDE)
    follow(jobs, 1, job, is_within_reach=lambda _: False)
    assert path_of_slide(jobs) == str(gone)
    follow(jobs, 1, job, is_within_reach=lambda _: True)
    assert path_of_slide(jobs) == str(new)
