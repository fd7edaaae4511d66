"""Whose turn it is: laws of the order in which jobs are claimed."""

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from queue_fixtures import empty_queue

from her2d.queue.job import BACKFILL, NEW_SCAN, JobState
from her2d.queue.store import JobQueue
from her2d.system.clock import in_seconds
from her2d.system.file_identity import FileState

STATE = FileState(1, 10, 20)
INBOXES = [Path("/scans") / name for name in "abcd"]


def queued(jobs, inbox, name, priority=NEW_SCAN):
    job = jobs.discover(inbox / name, inbox, STATE, priority)
    jobs.queue(job)
    return jobs.get(job.id)


def claimed_names(jobs):
    return [job.path.name for job in iter(jobs.claim, None)]


arrivals = st.tuples(st.sampled_from(INBOXES), st.sampled_from([NEW_SCAN, BACKFILL, 2]))
steps = st.lists(st.one_of(arrivals, st.just("claim"), st.just("give back")), max_size=40)


@settings(max_examples=15, deadline=None)
@given(steps)
def test_whatever_arrives_the_highest_priority_goes_first_and_inboxes_take_turns(steps):
    """No inbox waits for more claims than there are other inboxes, while it has a job that may be
    next; and within an inbox the oldest job is first."""
    with empty_queue() as jobs:
        waiting = {}
        passed_over = dict.fromkeys(INBOXES, 0)
        for number, step in enumerate([*steps, *["claim"] * len(steps)]):
            running = jobs.in_state(JobState.RUNNING)
            if step == "give back":
                if running:
                    jobs.give_back(running[0])
                    waiting[running[0].id] = running[0]
                continue
            if step != "claim":
                job = queued(jobs, step[0], f"{number}.tif", step[1])
                waiting[job.id] = job
                continue
            claimed = jobs.claim()
            if claimed is None:
                assert not waiting
                continue
            highest = max(job.priority for job in waiting.values())
            assert claimed.priority == highest
            level = [job for job in waiting.values() if job.priority == highest]
            assert claimed.id == min(job.id for job in level if job.inbox == claimed.inbox)
            for inbox in INBOXES:
                may_be_next = any(job.inbox == inbox for job in level)
                passed_over[inbox] += may_be_next
                if inbox == claimed.inbox or not may_be_next:
                    passed_over[inbox] = 0
                assert passed_over[inbox] < len(INBOXES)
            del waiting[claimed.id]


def test_ten_thousand_slides_of_one_scanner_do_not_delay_the_single_one_of_another(jobs):
    for number in range(20):
        queued(jobs, INBOXES[0], f"many-{number}.tif")
    assert jobs.claim().path.name == "many-0.tif"
    queued(jobs, INBOXES[1], "single.tif")
    assert claimed_names(jobs)[:2] == ["single.tif", "many-1.tif"]


def test_an_inbox_that_was_idle_has_no_claims_saved_up(jobs):
    for number in range(3):
        queued(jobs, INBOXES[0], f"a{number}.tif")
    for _ in range(2):
        jobs.move(jobs.claim(), JobState.DONE, {})
    for number in range(3):
        queued(jobs, INBOXES[1], f"b{number}.tif")
    assert claimed_names(jobs) == ["b0.tif", "a2.tif", "b1.tif", "b2.tif"]


def test_turns_survive_a_restart(jobs):
    for name in ("1.tif", "2.tif"):
        queued(jobs, INBOXES[0], name)
        queued(jobs, INBOXES[1], name)
    first = jobs.claim()
    jobs.recover()
    assert JobQueue(jobs.database).claim().inbox != first.inbox


def test_a_slide_that_ends_the_process_again_and_again_does_not_stop_the_other_inboxes(jobs):
    queued(jobs, INBOXES[0], "deadly.tif")
    queued(jobs, INBOXES[1], "innocent.tif")
    jobs.store_content_hash(jobs.claim(), "blake2b:00", 0)
    jobs.recover()
    assert jobs.claim().path.name == "innocent.tif"


def test_jobs_that_wait_for_their_time_are_not_read_by_a_claim(jobs):
    for number in range(3):
        job = queued(jobs, INBOXES[0], f"{number}.tif")
        jobs.move(job, JobState.FAILED, {"not_before": in_seconds(3600)})
    assert jobs.claim() is None
    jobs.database.execute("update jobs set not_before = ? where id = 2", [in_seconds(-1)])
    assert jobs.claim().id == 2
