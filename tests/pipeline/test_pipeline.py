"""decode -> saturation -> segment -> tumour gate -> classify -> integrate -> score."""

import math
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from incomplete_files import overwrite_blocks
from stained_tiles import TUMOR_STRONG, stained
from structlog.contextvars import bound_contextvars, get_contextvars

from her2d.bundle.integrator import Integrator
from her2d.bundle.manifest import Interval, IntervalScale
from her2d.inference.engine import EngineError
from her2d.inference.selection import open_engine
from her2d.pipeline.her2net import Her2Net
from her2d.pipeline.outcome import TileClass
from her2d.pipeline.pipeline import Pipeline
from her2d.pipeline.rules import Limits, rules_of
from her2d.pipeline.scoring import Her2Status
from her2d.pipeline.slide_run import SlideCancelledError, SlideRun
from her2d.slides.errors import SlideError
from her2d.slides.grid import TileGrid, UnreadableTile

LIMITS = Limits(segmenter_batch=3, classifier_batch=2, queue_tiles=4, batch_wait_s=0.01)


@pytest.fixture
def engine(color_bundle):
    engine = open_engine(color_bundle, backend="auto", threads=1)
    yield engine
    engine.close()


@pytest.fixture
def pipeline(engine, color_bundle):
    with Pipeline(
        Her2Net(engine, Integrator(color_bundle)), rules_of(color_bundle), LIMITS
    ) as pipeline:
        yield pipeline


def test_every_tile_gets_the_class_of_its_content(pipeline, write_slide):
    outcome = pipeline.submit(write_slide([".sS", "twh"])).result()
    assert outcome.tile_class.tolist() == [
        [TileClass.BACKGROUND, TileClass.NON_TUMOR, TileClass.STRONG],
        [TileClass.NON_TUMOR, TileClass.WEAK, TileClass.WEAK],
    ]
    assert outcome.tumor_pixels.tolist() == [[0, 0, 512 * 512], [512 * 25, 512 * 512, 512 * 256]]


def test_the_score_weighs_tiles_by_their_tumor_pixels(pipeline, write_slide):
    score = pipeline.submit(write_slide(["Shh"])).result().score
    assert score.her2_status is Her2Status.POSITIVE
    assert score.high_expression_percent == pytest.approx(50.0)
    assert (score.tumor_pixels, score.strong_pixels) == (2 * 512 * 512, 512 * 512)


def test_strong_tumor_below_a_tenth_is_negative(pipeline, write_slide):
    score = pipeline.submit(write_slide(["Swwww", "wwwww", "wwwww"])).result().score
    assert score.her2_status is Her2Status.NEGATIVE
    assert score.high_expression_percent == pytest.approx(100 / 15)


def test_a_slide_without_tumor_is_indeterminate(pipeline, write_slide):
    score = pipeline.submit(write_slide(["s.", "st"])).result().score
    assert score.her2_status is Her2Status.INDETERMINATE
    assert score.reason


def test_batches_hold_tiles_of_several_slides_and_results_stay_separate(
    engine, color_bundle, write_slide
):
    limits = Limits(slides_in_flight=4, segmenter_batch=8, batch_wait_s=0.05)
    paths = [write_slide(["S" + "w" * n], f"{n}.tif") for n in range(1, 7)]
    with Pipeline(
        Her2Net(engine, Integrator(color_bundle)), rules_of(color_bundle), limits
    ) as pipeline:
        futures = [pipeline.submit(path) for path in paths]
        percents = [future.result().score.high_expression_percent for future in futures]
    assert percents == pytest.approx([100 / (n + 1) for n in range(1, 7)])


def test_progress_counts_every_tile(pipeline, write_slide):
    seen: list[tuple[int, int]] = []
    pipeline.submit(write_slide(["sSw", "..t"]), progress=lambda *n: seen.append(n)).result()
    assert sorted(seen) == [(n, 6) for n in range(1, 7)]


def test_the_overview_shows_tissue_and_tumor_in_place(pipeline, write_slide):
    overview = pipeline.submit(write_slide([".S"])).result().overview
    side = overview.tile_px
    assert overview.rgb.shape == (side, 2 * side, 3)
    assert (overview.rgb[:, :side] == 245).all()
    assert (overview.tumor[:, side:] == 255).all()
    assert not overview.tumor[:, :side].any()


def test_padding_is_never_tumor(engine, color_bundle, write_slide, tmp_path):
    import tifffile

    path = tmp_path / "small.tif"
    image = stained(TUMOR_STRONG, 300, 700)
    tifffile.imwrite(path, image, photometric="rgb", description="AppMag = 4|MPP = 2.5")
    with Pipeline(
        Her2Net(engine, Integrator(color_bundle)), rules_of(color_bundle), LIMITS
    ) as pipeline:
        outcome = pipeline.submit(path, assume_magnification=4.0).result()
    assert outcome.tumor_pixels.sum() == 300 * 700


def test_a_file_that_is_not_a_slide_fails_and_the_next_slide_is_scored(
    pipeline, write_slide, tmp_path
):
    broken = tmp_path / "broken.tif"
    broken.write_bytes(b"II*\0 this is not a slide")
    with pytest.raises(SlideError):
        pipeline.submit(broken).result()
    assert pipeline.submit(write_slide(["S"])).result().count(TileClass.STRONG) == 1


class RecordingEngine:
    """A real engine that records the context of log lines at each upload."""

    def __init__(self, engine) -> None:
        self._engine = engine
        self.contexts: list[dict] = []

    def __getattr__(self, name):
        return getattr(self._engine, name)

    def upload(self, tiles):
        self.contexts.append(get_contextvars())
        return self._engine.upload(tiles)


def test_log_lines_about_a_batch_name_every_slide_in_it(engine, color_bundle, write_slide):
    recording = RecordingEngine(engine)
    limits = Limits(slides_in_flight=2, segmenter_batch=4, batch_wait_s=60)  # waits until it fills
    paths = [write_slide(["Sw"], f"{number}.tif") for number in range(2)]
    with Pipeline(
        Her2Net(recording, Integrator(color_bundle)), rules_of(color_bundle), limits
    ) as pipeline:
        futures = []
        for number, path in enumerate(paths):
            with bound_contextvars(job_id=number):
                futures.append(pipeline.submit(path))
        while not recording.contexts:
            time.sleep(0.01)
    (context,) = recording.contexts
    assert sorted(slide["job_id"] for slide in context["slides"]) == [0, 1]


class FailingOnce:
    """A real engine that fails on its first batch, as one out of memory would."""

    def __init__(self, engine) -> None:
        self._engine = engine
        self._failed = False

    def __getattr__(self, name):
        return getattr(self._engine, name)

    def upload(self, tiles):
        if not self._failed:
            self._failed = True
            raise EngineError("out of memory")
        return self._engine.upload(tiles)


def test_an_engine_error_fails_its_slide_and_not_the_pipeline(engine, color_bundle, write_slide):
    with Pipeline(
        Her2Net(FailingOnce(engine), Integrator(color_bundle)), rules_of(color_bundle), LIMITS
    ) as pipeline:
        with pytest.raises(EngineError, match="out of memory"):
            pipeline.submit(write_slide(["SSSSSSSS"] * 3, "first.tif")).result()
        assert pipeline.submit(write_slide(["S"])).result().count(TileClass.STRONG) == 1


class NotFinite:
    """A real engine one of whose probabilities is no number."""

    def __init__(self, engine, value: float) -> None:
        self._engine = engine
        self._value = value

    def __getattr__(self, name):
        return getattr(self._engine, name)

    def classify_kept(self, tiles):
        p = np.array(self._engine.classify_kept(tiles))
        p[0, 2] = self._value
        return p


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_probability_that_is_not_finite_is_an_engine_error_and_no_class(
    engine, color_bundle, write_slide, value
):
    method = Her2Net(NotFinite(engine, value), Integrator(color_bundle))
    with (
        Pipeline(method, rules_of(color_bundle), LIMITS) as pipeline,
        pytest.raises(EngineError, match="not finite"),
    ):
        pipeline.submit(write_slide(["S"])).result()


class Counted:
    """A real engine that tracks the batches and tiles it lent until they are returned."""

    def __init__(self, engine) -> None:
        self._engine = engine
        self.lent: set[int] = set()

    def __getattr__(self, name):
        return getattr(self._engine, name)

    def upload(self, tiles):
        return CountedBatch(self.lent, self._engine.upload(tiles))

    def classify_kept(self, tiles):
        for tile in tiles:
            tile.release()
        return self._engine.classify_kept([tile.lent for tile in tiles])


class CountedTile:
    def __init__(self, all_lent, lent) -> None:
        self.lent = lent
        self._all_lent = all_lent
        all_lent.add(id(self))

    def release(self):
        self._all_lent.discard(id(self))


class CountedBatch(CountedTile):
    def __len__(self):
        return len(self.lent)

    def segment(self):
        return self.lent.segment()

    def keep(self, index):
        return CountedTile(self._all_lent, self.lent.keep(index))


def test_every_batch_and_kept_tile_is_returned_to_the_engine(engine, color_bundle, write_slide):
    counted = Counted(engine)
    with Pipeline(
        Her2Net(counted, Integrator(color_bundle)), rules_of(color_bundle), LIMITS
    ) as pipeline:
        assert pipeline.submit(write_slide(["sSw", "twh"])).result().count(TileClass.STRONG) == 1
        assert counted.lent == set()


def test_batches_and_tiles_of_a_cancelled_slide_are_returned_to_the_engine(
    engine, color_bundle, write_slide
):
    counted, cancel = Counted(engine), threading.Event()
    with Pipeline(
        Her2Net(counted, Integrator(color_bundle)), rules_of(color_bundle), LIMITS
    ) as pipeline:
        future = pipeline.submit(
            write_slide(["SSSSSSSS"] * 4), cancel=cancel, progress=lambda *_: cancel.set()
        )
        with pytest.raises(SlideCancelledError):
            future.result()
    assert counted.lent == set()


def test_a_cancelled_slide_raises_a_cancellation_error(pipeline, write_slide):
    cancel = threading.Event()
    future = pipeline.submit(
        write_slide(["SSSSSSSS"] * 4), cancel=cancel, progress=lambda *_: cancel.set()
    )
    with pytest.raises(SlideCancelledError):
        future.result()


def test_closing_cancels_running_slides_and_ends_every_thread(engine, color_bundle, write_slide):
    before = set(threading.enumerate())
    pipeline = Pipeline(Her2Net(engine, Integrator(color_bundle)), rules_of(color_bundle), LIMITS)
    started = threading.Event()
    future = pipeline.submit(write_slide(["SSSSSSSS"] * 4), progress=lambda *_: started.set())
    started.wait()
    pipeline.close()
    with pytest.raises(SlideCancelledError):
        future.result()
    assert set(threading.enumerate()) <= before


def test_the_same_slide_gives_the_same_result_to_the_bit(pipeline, write_slide):
    path: Path = write_slide(["sSw", "whS"])
    first, second = (pipeline.submit(path).result() for _ in range(2))
    assert first.score == second.score
    assert np.array_equal(first.p_folds, second.p_folds, equal_nan=True)


def test_an_unreadable_tile_that_a_coarser_level_shows_as_glass_is_background(
    pipeline, write_slide
):
    path = write_slide(["w.", "w."])
    image = tifffile.imread(path)
    for level in (image, image[::4, ::4]):
        tifffile.imwrite(
            path,
            level,
            tile=(512, 512),
            compression="deflate",
            photometric="rgb",
            description="AppMag = 4|MPP = 2.5" if level is image else None,
            metadata=None,
            append=level is not image,
        )
    overwrite_blocks(path, [2, 3])
    outcome = pipeline.submit(path).result()
    assert outcome.tile_class.tolist() == [
        [TileClass.WEAK, TileClass.BACKGROUND],
        [TileClass.UNREADABLE, TileClass.BACKGROUND],
    ]
    assert outcome.unreadable_reason.startswith("block 0,1 cannot be decoded")
    assert outcome.unread_could_change_call


def test_an_unreadable_tile_too_small_to_be_a_tumour_tile_changes_no_call(pipeline, write_slide):
    path = write_slide(["w", "w"])
    image = tifffile.imread(path)[: 512 + 51]
    tifffile.imwrite(
        path,
        image,
        rowsperstrip=512,
        compression="deflate",
        photometric="rgb",
        description="AppMag = 4|MPP = 2.5",
        metadata=None,
    )
    overwrite_blocks(path, [1])
    outcome = pipeline.submit(path).result()
    assert outcome.tile_class.tolist() == [[TileClass.WEAK], [TileClass.UNREADABLE]]
    assert outcome.score.her2_status is Her2Status.NEGATIVE
    assert not outcome.unread_could_change_call


def test_an_io_error_is_the_reason_though_another_tile_was_unreadable_before():
    grid = TileGrid.covering(512, 3 * 512, um_per_px=2.5, level0_downsample=1.0)
    run = SlideRun(grid, lambda: False)
    run.unreadable(UnreadableTile(0, 0, "block 0,0 is a corrupt JPEG"))
    assert not run.has_io_errors
    run.unreadable(UnreadableTile(0, 1, "block 0,1 cannot be read: I/O error", is_io_error=True))
    run.unreadable(UnreadableTile(0, 2, "block 0,2 is a corrupt JPEG"))
    assert (run.unreadable_reason, run.has_io_errors) == (
        "block 0,1 cannot be read: I/O error",
        True,
    )


def test_a_bundle_without_a_calibration_says_that_its_interval_is_not_calibrated(
    pipeline, write_slide
):
    score = pipeline.submit(write_slide(["wwww", "wwww"])).result().score
    assert (score.her2_status, score.ci_low) == (Her2Status.NEGATIVE, 0.0)
    assert score.ci_high > 10
    assert (score.ci_calibrated, score.borderline) == (False, True)


def test_a_calibrated_bundle_has_calibrated_intervals(engine, color_bundle, write_slide):
    calibration = Interval(
        slides=19,
        patients=19,
        residuals=(1.0,) * 19,
        patient=tuple(range(19)),
        scale=IntervalScale(base=0.1),
    )
    rules = replace(rules_of(color_bundle), interval=calibration)
    with Pipeline(Her2Net(engine, Integrator(color_bundle)), rules, LIMITS) as pipeline:
        score = pipeline.submit(write_slide(["wwww", "wwww"])).result().score
    assert (score.ci_low, score.ci_high) == (0.0, pytest.approx(100 * math.sin(0.1) ** 2))
    assert (score.ci_calibrated, score.borderline) == (True, False)


def test_a_slide_without_tumor_has_no_interval(pipeline, write_slide):
    score = pipeline.submit(write_slide(["s."])).result().score
    assert (score.ci_low, score.ci_high, score.ci_calibrated) == (None, None, None)
