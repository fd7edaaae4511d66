"""How much the five sub-classifiers disagree, as the report states it."""

import numpy as np
import pytest

from her2d.research.evaluation.disagreement import disagreement_rows
from her2d.research.training.cohort import Split
from her2d.research.training.out_of_fold import FoldProbabilities


def tiles(*rows: list[float], strong: list[bool]) -> FoldProbabilities:
    names = np.array([f"P{number}" for number in range(len(rows))])
    return FoldProbabilities(np.array(rows, np.float32), np.array(strong), names)


def test_a_tile_is_not_unanimous_if_one_of_the_five_calls_it_otherwise():
    found = tiles(
        [0.9] * 5, [0.9] * 4 + [0.4], [0.1] * 5, [0.1] * 5, strong=[True, True, False, False]
    )
    (row,) = disagreement_rows({Split.INTEGRATOR: found})
    assert (row.set, row.tiles) == ("integrator", 4)
    assert (row.not_unanimous, row.not_unanimous_strong) == (0.25, 0.5)
    assert row.spread == pytest.approx(np.std([0.9] * 4 + [0.4]) / 4)


def test_without_strong_tiles_their_disagreement_is_not_stated():
    (row,) = disagreement_rows({Split.TEST: tiles([0.1] * 5, strong=[False])})
    assert row.not_unanimous_strong is None


def test_a_split_without_tiles_has_no_row():
    empty = FoldProbabilities(np.empty((0, 5), np.float32), np.empty(0, bool), np.empty(0, str))
    assert disagreement_rows({Split.INTEGRATOR: empty}) == ()
