"""One scan through the threads of the pipeline."""

import os
import threading

import pytest
from structlog.contextvars import bound_contextvars, get_contextvars

from her2d.processing.errors import FileChangedError
from her2d.processing.processor import open_processor, pipeline_limits
from her2d.settings import (
    InferenceSettings,
    PipelineSettings,
    ResultsSettings,
    Settings,
)


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(
        inference=InferenceSettings(threads=1),
        results=ResultsSettings(database=tmp_path / "her2d.sqlite", heatmaps=tmp_path / "heatmaps"),
        pipeline=PipelineSettings(segmenter_batch=1, classifier_batch=1),
    )


def test_log_lines_name_the_job_in_every_thread_that_works_on_a_slide(
    settings, color_bundle, write_slide
):
    path = write_slide([".sS"])
    bound: dict[str, set[object]] = {}

    def note(*_: object) -> None:
        thread = threading.current_thread().name.rstrip("_0123456789")
        bound.setdefault(thread, set()).add(get_contextvars().get("job_id"))

    with open_processor(color_bundle, settings) as processor, bound_contextvars(job_id=7):
        processor.content_hash(path, note)
        processor.score(path, progress=note)
    assert bound == {
        "her2d-hash": {7},  # reads the file
        "her2d-slide": {7},  # settles background
        "her2d-segment": {7},  # settles tiles without tumour
        "her2d-classify": {7},
    }


def test_a_file_that_changes_while_it_is_scored_does_not_get_a_score(
    settings, color_bundle, write_slide
):
    path = write_slide([".sS"])
    changed = False

    def change(*_: object) -> None:
        nonlocal changed
        if not changed:
            os.utime(path, ns=(0, 0))
            changed = True

    with (
        open_processor(color_bundle, settings) as processor,
        pytest.raises(FileChangedError, match="changed while it was read"),
    ):
        processor.score(path, progress=change)


@pytest.mark.parametrize(
    ("backend", "tiles"), [("onnxruntime", 1), ("openvino", 1), ("torch", 8), ("tensorrt", 8)]
)
def test_batches_suit_the_device_unless_the_settings_name_them(settings, backend, tiles):
    of_default = pipeline_limits(
        settings.model_copy(update={"pipeline": PipelineSettings()}), backend
    )
    assert (of_default.segmenter_batch, of_default.classifier_batch) == (tiles, tiles)
    named = PipelineSettings(segmenter_batch=3, classifier_batch=5)
    limits = pipeline_limits(settings.model_copy(update={"pipeline": named}), backend)
    assert (limits.segmenter_batch, limits.classifier_batch) == (3, 5)
