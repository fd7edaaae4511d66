"""Attention over the whole slide: an encoder's features of the tumour tiles, weighed at the end.

It knows no strong tiles and no share of them. What it keeps of a slide until the end is bounded by
the bundle: the features of at most `max_tiles` tiles, and no pixels.
"""

import numpy as np
from numpy.typing import NDArray

from her2d.inference.mil_engine import MilEngine
from her2d.pipeline.evaluability import find_bag_obstacle, unread_could_change_weights
from her2d.pipeline.outcome import TileClass
from her2d.pipeline.rules import Limits, PipelineRules
from her2d.pipeline.scoring import score_bag
from her2d.pipeline.slide_method import SlideCall, SlideFindings, TumorWork
from her2d.pipeline.slide_run import SlideRun
from her2d.pipeline.stages import TumorTile


class AttentionMethod:
    """Multiple-instance learning by gated attention (Ilse et al. 2018).

    Args:
        engine: of a bundle with `mil`.
    """

    def __init__(self, engine: MilEngine) -> None:
        self._engine = engine

    @property
    def engine(self) -> MilEngine:
        return self._engine

    def tumor_work(self, full_batch: int) -> TumorWork:
        def work(tiles: list[TumorTile]) -> None:
            wanted = []
            for tile in tiles:
                # The slide has no call any more, so its further tiles need no features.
                if len(tile.run.features) > self._engine.mil.max_tiles:
                    tile.drop()
                    tile.run.not_encoded(tile.row, tile.column)
                else:
                    wanted.append(tile)
            if wanted:
                features = self._engine.encode_kept([tile.kept for tile in wanted])
                for tile, found in zip(wanted, features, strict=True):
                    tile.run.encoded(tile.row, tile.column, found)

        return work

    def most_at_once(self, limits: Limits) -> int:
        return limits.classifier_batch

    def integrate(self, run: SlideRun) -> None:
        """Do nothing: a tumour tile has no class but that."""

    def call(self, run: SlideRun, findings: SlideFindings, rules: PipelineRules) -> SlideCall:
        is_tumor = run.tile_class == TileClass.TUMOR
        mil, tiles = self._engine.mil, int(is_tumor.sum())
        obstacle = find_bag_obstacle(
            tiles,
            findings.quality,
            findings.unread,
            rules.evaluable,
            scale=findings.scale,
            most_tiles=mil.max_tiles,
        )
        p_positive, attention = None, None
        if obstacle is None:
            places = sorted(run.features)  # row by row, as training reads them
            found = self._engine.attend(np.stack([run.features[place] for place in places]))
            p_positive = found.p_positive
            attention = _on_grid(is_tumor.shape, places, found.attention)
        score = score_bag(
            p_positive,
            obstacle=obstacle,
            threshold=mil.threshold,
            tiles=tiles,
            tumor_pixels=int(run.tumor_pixels[is_tumor].sum()),
        )
        return SlideCall(score, unread_could_change_weights(findings.unread), attention)


def _on_grid(
    shape: tuple[int, ...], places: list[tuple[int, int]], weights: NDArray[np.float32]
) -> NDArray[np.float32]:
    grid = np.full(shape, np.nan, np.float32)
    row, column = zip(*places, strict=True)
    grid[list(row), list(column)] = weights
    return grid
