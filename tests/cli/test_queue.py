"""`her2d queue`: what a technician does about a file that stopped."""

import os
import pwd
from contextlib import closing

import pytest

from her2d.db.connection import open_database
from her2d.queue.store import JobQueue
from her2d.system.file_identity import FileState


@pytest.fixture
def job(laboratory):
    """A queued job."""
    db = open_database(laboratory.database)
    jobs = JobQueue(db)
    found = jobs.discover(laboratory.inbox / "a.tif", laboratory.inbox, FileState(1, 10, 20))
    jobs.queue(found)
    db.close()
    return found


def test_a_job_is_listed_with_its_priority(laboratory, job):
    (row,) = laboratory.json("queue", "ls")
    assert (row["id"], row["state"], row["priority"]) == (job.id, "queued", 0)


@pytest.mark.parametrize("number", [5, -20])
def test_a_job_is_moved_forward_or_back(laboratory, job, number):
    found = laboratory.run("queue", "priority", job.id, number)
    assert found.stdout == f"Job {job.id} has priority {number}.\n"
    assert laboratory.json("queue", "ls")[0]["priority"] == number


def test_a_job_is_cancelled_and_tried_again(laboratory, job):
    laboratory.run("queue", "cancel", job.id)
    (row,) = laboratory.json("queue", "ls")
    assert (row["state"], row["reason"]) == ("cancelled", "Cancelled by an operator.")
    laboratory.run("queue", "retry", job.id)
    assert laboratory.json("queue", "ls")[0]["state"] == "queued"


def test_a_job_that_waits_is_not_retried_and_the_error_is_one_line(laboratory, her2d, job):
    code, _, error = her2d("queue", "retry", job.id)
    assert code == 1
    assert error == (f"her2d: Job {job.id} did not stop without a result. It is queued.\n")


def test_a_cancelled_file_that_was_removed_is_forgotten(laboratory, job):
    laboratory.run("queue", "cancel", job.id)
    assert laboratory.run("queue", "forget", job.id).stdout == f"Job {job.id} is forgotten.\n"
    assert laboratory.json("queue", "ls") == []
    (row,) = laboratory.json("queue", "ls", "--state", "vanished")
    assert row["reason"] == "Forgotten by an operator. Cancelled by an operator."


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_long_name_and_its_reason_are_whole_at_any_width(laboratory, on_a_terminal, width):
    name = "2026-11-27_gastric_biopsy_patient_000012345_rescan_B.tif"
    with closing(open_database(laboratory.database)) as db:
        reason = "It states no magnification; set intake.assume_magnification."
        JobQueue(db).refuse(laboratory.inbox / name, FileState(1, 2, 3), reason)
    printed = on_a_terminal(width, "queue", "ls")
    assert sum(name in line for line in printed.splitlines()) == 1
    assert reason in " ".join(printed.split())
    assert "quarantined" in printed
    assert max(map(len, printed.splitlines())) <= width


def test_a_listing_without_jobs_is_one_sentence(laboratory, job):
    assert laboratory.run("queue", "ls", "--state", "failed").stdout == "No jobs match.\n"


def test_without_finished_slides_nothing_is_reprocessed(laboratory, job):
    assert laboratory.run("queue", "reprocess").stdout == "Queued 0 slides.\n"


@pytest.fixture
def database_that_refuses(laboratory, job):
    """A database in which no job can be inserted or changed, and one job is done."""
    db = open_database(laboratory.database)
    db.execute("update jobs set state = 'done'")
    for event in ("insert", "update"):
        db.execute(
            f"create trigger no_{event} before {event} on jobs"
            " begin select raise(abort, 'the trigger refuses'); end"
        )
    db.close()


def test_a_database_that_refuses_is_one_clear_line(laboratory, her2d, database_that_refuses):
    code, _, error = her2d("queue", "reprocess")
    assert code == 1
    assert (
        error
        == f"her2d: The database {laboratory.database} cannot be changed: the trigger refuses.\n"
    )


def test_a_file_that_nothing_reads_is_listed_with_its_reason(laboratory):
    with closing(open_database(laboratory.database)) as db:
        path = laboratory.inbox / "a.mdsx"
        JobQueue(db).name_unread(path, laboratory.inbox, FileState(1, 10, 20), "Export it as TIFF.")
    (row,) = laboratory.json("queue", "ls")
    assert (row["path"], row["state"], row["reason"]) == (
        str(path),
        "unread",
        "Export it as TIFF.",
    )
    assert "a.mdsx" in laboratory.run("queue", "ls", "--state", "unread").stdout


def acts(laboratory) -> list[tuple[str, str, str | None]]:
    """What persons did, oldest first: the command, the act and its detail."""
    found = laboratory.json("db", "history")
    return [(act["actor"].partition(": ")[2], act["act"], act["detail"]) for act in found[::-1]]


def test_every_act_of_a_person_is_recorded_with_the_user_and_the_command(
    laboratory, job, monkeypatch
):
    monkeypatch.setenv("SUDO_USER", "alice")
    laboratory.run("queue", "priority", job.id, 5)
    laboratory.run("queue", "cancel", job.id)
    laboratory.run("queue", "retry", job.id)
    laboratory.run("queue", "cancel", job.id)
    laboratory.run("queue", "forget", job.id)
    found = laboratory.json("db", "history")
    assert {act["actor"].partition(": ")[0] for act in found} == {
        f"alice as {pwd.getpwuid(os.getuid()).pw_name}"
    }
    assert {(act["job_id"], act["file_name"]) for act in found} == {(job.id, "a.tif")}
    assert [(command, act) for command, act, _ in acts(laboratory)] == [
        ("her2d queue priority", "reprioritised"),
        ("her2d queue cancel", found[3]["act"]),
        ("her2d queue retry", "queued"),
        ("her2d queue cancel", found[1]["act"]),
        ("her2d queue forget", "forgotten"),
    ]
    assert acts(laboratory)[0][2] == "0 -> 5"


def test_what_the_daemon_does_is_no_act_of_a_person(laboratory, job):
    assert laboratory.json("db", "history") == []
    assert laboratory.run("db", "history").stdout == "Nobody has changed anything.\n"
