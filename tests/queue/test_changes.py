"""Which jobs entered a state and which left it, from the events of all changes."""

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from queue_fixtures import empty_queue

from her2d.queue.changes import StateChanges
from her2d.queue.job import JobState
from her2d.queue.store import JobQueue
from her2d.system.file_identity import FileState

INBOX = Path("/in")
_STEPS = st.lists(
    st.one_of(
        st.just("look"),
        st.tuples(st.sampled_from(["found", "queued", "settle again", "gone"]), st.integers(0, 3)),
    ),
    max_size=40,
)


def change(jobs: JobQueue, what: str, number: int) -> None:
    path = INBOX / f"{number}.tif"
    if what == "found":
        jobs.discover(path, INBOX, FileState(number, 1, 1))
        return
    job = jobs.newest_of(path)
    if job is None:
        return
    if what == "queued" and job.state is JobState.SETTLING:
        jobs.queue(job)
    elif what == "settle again" and job.state is JobState.QUEUED:
        jobs.settle_again(job, "It changed.")
    elif what == "gone" and job.state in (JobState.SETTLING, JobState.QUEUED):
        jobs.mark_vanished(job)


@settings(max_examples=25, deadline=None)
@given(_STEPS)
def test_the_changes_together_are_the_jobs_in_the_state(steps):
    with empty_queue() as jobs:
        changes, known = StateChanges(jobs.database, JobState.SETTLING), set()
        for step in [*steps, "look"]:
            if step != "look":
                change(jobs, *step)
                continue
            entered, left = changes.take()
            known |= set(entered)
            known -= set(left)
            assert known == {job.id for job in jobs.in_state(JobState.SETTLING)}
            assert changes.take() == ([], [])
