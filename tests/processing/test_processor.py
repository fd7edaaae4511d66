"""A job on its way through the threads."""

import threading
from collections.abc import Iterator

import pytest
from structlog.contextvars import bound_contextvars, get_contextvars

from her2d.db.connection import open_database
from her2d.processing.processor import open_processor
from her2d.queue.store import JobQueue
from her2d.settings import (
    BundleSettings,
    InferenceSettings,
    PipelineSettings,
    ResultsSettings,
    Settings,
)
from her2d.system.file_identity import FileState


@pytest.fixture
def jobs(tmp_path) -> Iterator[JobQueue]:
    db = open_database(tmp_path / "her2d.sqlite")
    yield JobQueue(db)
    db.close()


@pytest.fixture
def settings(tmp_path, color_bundle) -> Settings:
    return Settings(
        bundle=BundleSettings(path=color_bundle.directory),
        inference=InferenceSettings(threads=1),
        results=ResultsSettings(database=tmp_path / "her2d.sqlite", heatmaps=tmp_path / "heatmaps"),
        pipeline=PipelineSettings(segmenter_batch=1, classifier_batch=1),
    )


def test_whatever_thread_works_on_a_slide_its_lines_name_the_job(jobs, settings, write_slide):
    path = write_slide([".sS"])
    jobs.queue(jobs.discover(path, path.parent, FileState.of(path)))
    job = jobs.claim()
    bound: dict[str, set[object]] = {}

    def heartbeat() -> None:
        thread = threading.current_thread().name.rstrip("_0123456789")
        bound.setdefault(thread, set()).add(get_contextvars().get("job_id"))

    with open_processor(settings) as processor, bound_contextvars(job_id=job.id):
        processor.process_job(jobs, job, cancel=threading.Event(), heartbeat=heartbeat)
    assert bound == {
        "her2d-hash": {job.id},  # reads the file
        "her2d-slide": {job.id},  # settles background
        "her2d-segment": {job.id},  # settles what is no tumour
        "her2d-classify": {job.id},
    }
