"""A scan is hashed while it is scored, and no verdict is given before all of it was read."""

import errno
import gc
import threading
import weakref
from collections.abc import Callable, Iterator

import pytest
from touched_files import rewrite_in_place
from waiting import wait_until

from her2d.inference.engine import EngineError
from her2d.pipeline.slide_run import SlideCancelledError
from her2d.processing.errors import DuplicateScanError, FileChangedError
from her2d.processing.identity import open_scan
from her2d.processing.processor import SlideProcessor, open_processor
from her2d.settings import InferenceSettings, PipelineSettings, ResultsSettings, Settings
from her2d.slides.errors import SlideError
from her2d.system.file_identity import content_hash

PATIENCE_S = 60
MIB = 1 << 20


@pytest.fixture(scope="module")
def processor(color_bundle, tmp_path_factory) -> Iterator[SlideProcessor]:
    folder = tmp_path_factory.mktemp("results")
    settings = Settings(
        inference=InferenceSettings(threads=1),
        results=ResultsSettings(database=folder / "her2d.sqlite", heatmaps=folder / "heatmaps"),
        pipeline=PipelineSettings(segmenter_batch=1, classifier_batch=1, decode_workers=1),
    )
    with open_processor(color_bundle, settings) as processor:
        yield processor


@pytest.fixture
def path(write_slide):
    """A slide whose hash reports progress several times, the first time after its first MiB."""
    path = write_slide([".sS", "wSw"])
    with path.open("ab") as file:
        file.write(bytes(3 * MIB))
    return path


class Tiles:
    """Counts tiles, and lets a thread wait for the first or the last one."""

    def __init__(self) -> None:
        self.first, self.last = threading.Event(), threading.Event()
        self.done = 0

    def __call__(self, done: int, total: int) -> None:
        self.done = done
        self.first.set()
        if done == total:
            self.last.set()


def score(processor, path, *, hashed: Callable[[str], None] = lambda _: None, **given):
    with open_scan(path) as scan:
        return processor.hash_and_score(scan, hashed, **given)


def test_tiles_are_scored_before_the_file_was_read_to_its_end(processor, path):
    tiles, order = Tiles(), []

    def wait_for_the_tiles() -> None:
        assert tiles.last.wait(PATIENCE_S)

    digest, scored = score(
        processor,
        path,
        hashed=order.append,
        on_hash_progress=wait_for_the_tiles,
        progress=tiles,
    )
    assert order == [digest] == [content_hash(path)]
    assert scored.outcome.score.her2_status == "positive"


def test_the_result_is_that_of_a_slide_that_was_hashed_before(processor, path):
    _, beside = score(processor, path)
    with open_scan(path) as scan:
        alone = processor.score(scan)
        assert alone.first_block == beside.first_block == scan.first_block()
    assert alone.outcome.score == beside.outcome.score
    assert (alone.outcome.p_strong == beside.outcome.p_strong)[alone.outcome.tile_class > 1].all()


def test_a_file_that_changes_while_it_is_scored_has_no_score(processor, path):
    changes = [path]

    def change(*_: object) -> None:
        if changes:
            rewrite_in_place(changes.pop())

    with pytest.raises(FileChangedError, match="changed while it was read"):
        score(processor, path, progress=change)


def test_a_file_that_changes_after_its_last_tile_and_before_its_hash_has_no_score(processor, path):
    tiles, changes = Tiles(), [path]

    def change() -> None:
        assert tiles.last.wait(PATIENCE_S)
        if changes:
            rewrite_in_place(changes.pop())

    with pytest.raises(FileChangedError, match="changed while it was read"):
        score(processor, path, on_hash_progress=change, progress=tiles)


def bad_sector() -> None:
    raise OSError(errno.EIO, "Input/output error")


def test_an_error_of_the_hash_ends_the_scoring(processor, path):
    tiles = Tiles()
    with pytest.raises(OSError, match="Input/output error"):
        score(processor, path, on_hash_progress=bad_sector, progress=tiles)
    done = tiles.done
    score(processor, path)  # the pipeline is free for another slide
    assert tiles.done == done


def test_an_error_of_the_hash_counts_although_the_tiles_are_done(processor, path):
    tiles = Tiles()

    def fail_late() -> None:
        assert tiles.last.wait(PATIENCE_S)
        bad_sector()

    with pytest.raises(OSError, match="Input/output error"):
        score(processor, path, on_hash_progress=fail_late, progress=tiles)


@pytest.fixture
def no_slide(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(b"no slide" * MIB)
    return path


def test_a_file_is_refused_only_after_all_of_it_was_read(processor, no_slide):
    found = []
    with pytest.raises(SlideError, match="is not a TIFF"):
        score(processor, no_slide, hashed=found.append)
    assert found == [content_hash(no_slide)]


def test_a_file_of_which_a_part_cannot_be_read_is_not_refused_for_its_content(processor, no_slide):
    with pytest.raises(OSError, match="Input/output error"):
        score(processor, no_slide, on_hash_progress=bad_sector)


def test_what_the_caller_raises_for_the_hash_ends_the_scoring(processor, path):
    def is_known(digest: str) -> None:
        raise DuplicateScanError(7, digest)

    with pytest.raises(DuplicateScanError):
        score(processor, path, hashed=is_known)


def test_a_stop_ends_both(processor, path):
    cancel, reads = threading.Event(), []

    def note() -> None:
        reads.append(1)
        cancel.set()
        threading.Event().wait(0.5)

    with pytest.raises(SlideCancelledError):
        score(processor, path, on_hash_progress=note, cancel=cancel)
    assert len(reads) < 4


def test_an_engine_that_fails_is_reported_before_the_file_was_read_to_its_end(
    processor, path, monkeypatch
):
    scoring = threading.Event()

    class Fails:
        def __call__(self, *_: object, **__: object):
            scoring.set()
            raise EngineError("The engine failed.")

    monkeypatch.setattr(processor.pipeline, "_score", Fails())
    reads = []

    def note() -> None:
        reads.append(1)
        assert scoring.wait(PATIENCE_S)
        threading.Event().wait(0.1)

    with pytest.raises(EngineError, match="failed"):
        score(processor, path, on_hash_progress=note)
    assert len(reads) < 4


def test_a_slides_outcome_is_freed_with_its_last_reference(processor, path):
    gc.collect()
    gc.disable()
    try:
        _, scored = score(processor, path)
        outcome = weakref.ref(scored.outcome.tile_class)
        del scored
        wait_until(lambda: outcome() is None)
    finally:
        gc.enable()
