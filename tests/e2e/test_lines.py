"""What a real daemon logs about slides."""

import pytest

from her2d.queue.job import JobState

pytestmark = pytest.mark.slow


def test_every_line_about_a_slide_has_its_job_id_and_the_last_has_the_results_id(site, write_slide):
    write_slide(["Sw"], "a.tif", folder=site.inbox)
    (site.inbox / "bad.tif").write_bytes(b"\x89PNG and so on")
    site.set("intake", on_success="move", on_failure="move")
    with site.daemon():
        site.wait_until(lambda: site.events()["slide_archived"] == 2)
    (done,) = site.jobs(JobState.DONE)
    about_slides = [line for line in site.lines() if "file" in line]
    assert {line["job_id"] for line in about_slides} == {job.id for job in site.jobs()}
    (started,) = [line for line in about_slides if line["event"] == "slide_started"]
    (finished,) = [line for line in about_slides if line["event"] == "slide_finished"]
    assert started["attempt_id"] == finished["attempt_id"] == f"{done.id}.1"
    result = site.results()["a.tif"]
    assert (finished["slide_id"], finished["run_id"]) == (result.slide_id, result.run_id)
