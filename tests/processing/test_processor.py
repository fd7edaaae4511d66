"""One scan through the threads of the pipeline."""

import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from structlog.contextvars import bound_contextvars, get_contextvars
from touched_files import rewrite_in_place

from her2d.inference.options import BatchSizes
from her2d.pipeline.outcome import SlideOutcome, TileClass
from her2d.processing.errors import FileChangedError, TooFewTilesError
from her2d.processing.identity import open_scan
from her2d.processing.processor import (
    ScoredSlide,
    _require_enough_tiles,
    open_processor,
    pipeline_limits,
)
from her2d.settings import (
    InferenceSettings,
    PipelineSettings,
    ResultsSettings,
    Settings,
)
from her2d.slides.errors import SlideError


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

    with (
        open_processor(color_bundle, settings) as processor,
        open_scan(path) as scan,
        bound_contextvars(job_id=7),
    ):
        processor.content_hash(scan, note)
        processor.score(scan, progress=note)
    assert bound == {
        "her2d-hash": {7},  # reads the file
        "her2d-slide": {7},  # settles background
        "her2d-segment": {7},  # settles tiles without tumour
        "her2d-classify": {7},
    }


def exchange(path: Path) -> None:
    """Put a copy with the same size and time in the file's place."""
    copy = path.with_name("copy.tif")
    shutil.copy2(path, copy)
    copy.replace(path)


def link_the_folder_elsewhere(path: Path) -> None:
    """Put a link to a copy of the folder in the folder's place."""
    elsewhere = path.parent.with_name("elsewhere")
    shutil.copytree(path.parent, elsewhere)
    path.parent.rename(path.parent.with_name("away"))
    path.parent.symlink_to(elsewhere)


CHANGES = {
    "another time": lambda path: os.utime(path, ns=(0, 0)),
    "the same size and time": rewrite_in_place,
    "another file": exchange,
}


@pytest.fixture
def score_while(settings, color_bundle, write_slide, tmp_path):
    """Return a function that scores a slide, in an inbox, that is changed while it is scored."""

    def score(change: Callable[[Path], None]) -> ScoredSlide:
        (tmp_path / "inbox" / "day").mkdir(parents=True)
        path = write_slide([".sS"], folder=tmp_path / "inbox" / "day")
        changes = [change]

        def progress(*_: object) -> None:
            if changes:
                changes.pop()(path)

        with (
            open_processor(color_bundle, settings) as processor,
            open_scan(path, tmp_path / "inbox") as scan,
        ):
            return processor.score(scan, progress=progress)

    return score


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changes_while_it_is_scored_does_not_get_a_score(score_while, change):
    with pytest.raises(FileChangedError, match="changed while it was read"):
        score_while(CHANGES[change])


def test_a_file_that_changes_between_its_hash_and_its_score_does_not_get_a_score(
    settings, color_bundle, write_slide
):
    path = write_slide([".sS"])
    with open_processor(color_bundle, settings) as processor, open_scan(path) as scan:
        processor.content_hash(scan)
        rewrite_in_place(path)
        with pytest.raises(FileChangedError):
            processor.score(scan)


def test_a_slide_behind_a_link_does_not_get_a_score(score_while):
    with pytest.raises(SlideError, match="lies behind a link"):
        score_while(link_the_folder_elsewhere)


def test_the_file_that_was_hashed_is_the_one_that_is_scored(
    settings, color_bundle, write_slide, tmp_path
):
    """A folder is exchanged after the hash, and back before the end."""
    for name in ("day", "other"):
        (tmp_path / name).mkdir()
    path = write_slide(["SS"], folder=tmp_path / "day")
    write_slide(["ww"], folder=tmp_path / "other")
    with open_processor(color_bundle, settings) as processor, open_scan(path, tmp_path) as scan:
        (tmp_path / "day").rename(tmp_path / "away")
        (tmp_path / "other").rename(tmp_path / "day")

        def back(*_: object) -> None:
            if (tmp_path / "away").exists():
                (tmp_path / "day").rename(tmp_path / "other")
                (tmp_path / "away").rename(tmp_path / "day")

        scored = processor.score(scan, progress=back)
    assert scored.outcome.score.her2_status == "positive"


def test_batches_suit_the_engine_unless_the_settings_name_them(settings):
    batches = BatchSizes(segmenter=2, classifiers=4)
    of_default = pipeline_limits(
        settings.model_copy(update={"pipeline": PipelineSettings()}), batches
    )
    assert (of_default.segmenter_batch, of_default.classifier_batch) == (2, 4)
    named = PipelineSettings(segmenter_batch=3, classifier_batch=5)
    limits = pipeline_limits(settings.model_copy(update={"pipeline": named}), batches)
    assert (limits.segmenter_batch, limits.classifier_batch) == (3, 5)


BAD_SECTOR, CORRUPT = "I/O error", "corrupt"


@pytest.fixture
def outcome_with(settings, color_bundle, write_slide):
    """Return a function that gives an outcome of ten tissue tiles, the first ones unreadable."""
    path = write_slide(["wwwww", "sssss"])
    with open_processor(color_bundle, settings) as processor, open_scan(path) as scan:
        whole = processor.score(scan).outcome

    def outcome(*causes: str) -> SlideOutcome:
        tile_class, io_error = whole.tile_class.copy(), np.zeros_like(whole.has_io_error)
        tile_class.flat[: len(causes)] = TileClass.UNREADABLE
        io_error.flat[: len(causes)] = [cause == BAD_SECTOR for cause in causes]
        return replace(
            whole,
            tile_class=tile_class,
            has_io_error=io_error,
            unreadable_reason="block 0,0 cannot be read",
        )

    return outcome


@pytest.mark.parametrize(
    ("causes", "unreadable", "lost"),
    [
        ((), 0, 0),
        ((CORRUPT, CORRUPT), 20, 20),
        ((BAD_SECTOR, BAD_SECTOR), 20, 0),
        ((BAD_SECTOR, CORRUPT, CORRUPT, CORRUPT), 40, 30),
    ],
)
def test_what_no_later_attempt_can_read_is_lost(outcome_with, causes, unreadable, lost):
    outcome = outcome_with(*causes)
    assert (outcome.unreadable_percent, outcome.lost_percent) == (unreadable, lost)


@pytest.mark.parametrize(
    ("causes", "may_be_read_later"),
    [
        ((CORRUPT,) * 3, False),
        ((BAD_SECTOR,) * 3, True),
        ((BAD_SECTOR, BAD_SECTOR, CORRUPT, CORRUPT), True),  # 20 % are lost
        ((BAD_SECTOR, CORRUPT, CORRUPT, CORRUPT), False),  # 30 % are lost
    ],
)
def test_a_slide_with_io_errors_is_tried_again_only_if_that_can_help(
    outcome_with, causes, may_be_read_later
):
    with pytest.raises(TooFewTilesError) as raised:
        _require_enough_tiles(Path("a.tif"), outcome_with(*causes), 25.0)
    assert raised.value.is_io_error is may_be_read_later
