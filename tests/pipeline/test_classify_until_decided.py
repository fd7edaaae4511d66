"""The stage that runs one sub-classifier after another, each for the tiles that are left."""

import numpy as np
import pytest
from forests import folds_and_labels, read
from sklearn.ensemble import RandomForestClassifier

from her2d.inference.engine import EngineError
from her2d.method import FOLDS
from her2d.pipeline.early_decision import EarlyDecision
from her2d.pipeline.outcome import TileClass
from her2d.pipeline.slide_run import SlideRun
from her2d.pipeline.stages import TumorTile, classify_until_decided
from her2d.slides.grid import TileGrid

BATCH = 8


class Kept:
    """A kept tile that knows its probabilities and how often it was released."""

    def __init__(self, p: np.ndarray) -> None:
        self.p = p
        self.released = 0

    def release(self) -> None:
        self.released += 1


class Engine:
    """Gives each tile its probabilities, and records which tiles it was given."""

    def __init__(self, fails_on: Kept | None = None) -> None:
        self.batches: list[tuple[int, list[Kept]]] = []
        self._fails_on = fails_on

    def classify_fold(self, kept, fold):
        assert not any(tile.released for tile in kept)
        if self._fails_on in kept:
            raise EngineError("out of memory")
        self.batches.append((fold, list(kept)))
        return np.array([tile.p[fold] for tile in kept], np.float32)


def slide(tiles: int, cancelled=lambda: False) -> SlideRun:
    grid = TileGrid.covering(512 * tiles, 512, um_per_px=2.5, level0_downsample=1.0)
    return SlideRun(grid, cancelled)


@pytest.fixture(scope="module")
def forest():
    fitted = RandomForestClassifier(30, max_depth=2, random_state=0)
    return fitted.fit(*folds_and_labels(3, 500, missing=False))


@pytest.fixture
def early(forest):
    return EarlyDecision(read(forest), 0.5, None)


def tiles_of(run: SlideRun, p: np.ndarray) -> list[TumorTile]:
    return [TumorTile(run, 0, column, Kept(each)) for column, each in enumerate(p)]


def test_tiles_that_are_left_are_put_together_to_full_batches_in_their_order(forest, early):
    p, _ = folds_and_labels(9, 50, missing=False)
    run, engine = slide(len(p)), Engine()
    tiles = tiles_of(run, p)
    classify_until_decided(engine, early, BATCH)(tiles)

    assert [tile.kept.released for tile in tiles] == [1] * len(p)
    left = [tile.kept for tile in tiles]
    for ran, fold in enumerate(early.order, start=1):
        given = [batch for of, batch in engine.batches if of == fold]
        assert [len(batch) for batch in given[:-1]] == [BATCH] * (len(given) - 1)
        assert [tile for batch in given for tile in batch] == left
        if ran < FOLDS:
            rows = np.array([tile.p for tile in left])
            decided = early.decide(rows, ran).decided
            left = [tile for tile, is_decided in zip(left, decided, strict=True) if not is_decided]
    assert 0 < len(left) < len(p)
    expected = forest.predict_proba(p)[:, 1] > 0.5
    stopped = run.decided_early[0]
    assert stopped.sum() == len(p) - len(left)
    assert np.array_equal(run.tile_class[0][stopped] == TileClass.STRONG, expected[stopped])
    assert np.array_equal(run.p_folds[0][~stopped], p[~stopped])


def test_an_error_ends_the_slides_of_its_batch_and_no_others(early):
    p, _ = folds_and_labels(9, BATCH, missing=False)
    first, second = slide(BATCH), slide(BATCH)
    tiles = [*tiles_of(first, p), *tiles_of(second, p)]
    classify_until_decided(Engine(fails_on=tiles[3].kept), early, BATCH)(tiles)
    with pytest.raises(EngineError, match="out of memory"):
        first.wait()
    second.wait()
    assert [tile.kept.released for tile in tiles] == [1] * 2 * BATCH


def test_a_probability_that_is_not_finite_ends_its_slide_without_a_class(early):
    p, _ = folds_and_labels(9, BATCH, missing=False)
    p[3] = np.nan
    run = slide(BATCH)
    classify_until_decided(Engine(), early, BATCH)(tiles_of(run, p))
    with pytest.raises(EngineError, match="not finite"):
        run.wait()


def test_sub_classifiers_are_not_run_for_a_slide_that_was_cancelled_meanwhile(early):
    p, _ = folds_and_labels(9, BATCH, missing=False)
    engine = Engine()
    tiles = tiles_of(slide(BATCH, cancelled=lambda: len(engine.batches) > 0), p)
    classify_until_decided(engine, early, BATCH)(tiles)
    assert len(engine.batches) == 1
    assert [tile.kept.released for tile in tiles] == [1] * BATCH
