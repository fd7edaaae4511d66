"""HER2Net: five sub-classifiers and an integrator say which tumour tiles are strong, and P calls.

Paper, sections 4.3 to 4.6.
"""

import numpy as np

from her2d.bundle.integrator import Integrator
from her2d.inference.engine import Engine
from her2d.pipeline.block_bootstrap import block_bootstrap_interval
from her2d.pipeline.conformal import conformal_interval
from her2d.pipeline.early_decision import EarlyDecision
from her2d.pipeline.evaluability import find_obstacle, unread_could_change_call
from her2d.pipeline.interval import Interval, TumorTiles
from her2d.pipeline.outcome import TileClass, find_tumor_tiles
from her2d.pipeline.rules import Limits, PipelineRules
from her2d.pipeline.scoring import score_slide, with_ihc_zone
from her2d.pipeline.slide_method import SlideCall, SlideFindings, TumorWork
from her2d.pipeline.slide_run import SlideRun
from her2d.pipeline.stages import classify, classify_until_decided
from her2d.pipeline.tile_counts import TileCounts


class Her2Net:
    """The paper's method.

    Args:
        engine: of a bundle.
        integrator: of the same bundle.
        early_decision: decides tiles before all sub-classifiers have run; None runs all five for
            every tumour tile.
    """

    def __init__(
        self, engine: Engine, integrator: Integrator, early_decision: EarlyDecision | None = None
    ) -> None:
        self._engine = engine
        self._integrator = integrator
        self._early_decision = early_decision

    @property
    def engine(self) -> Engine:
        return self._engine

    def tumor_work(self, full_batch: int) -> TumorWork:
        if self._early_decision is None:
            return classify(self._engine)
        return classify_until_decided(self._engine, self._early_decision, full_batch)

    def most_at_once(self, limits: Limits) -> int:
        return limits.classifier_batch if self._early_decision is None else limits.queue_tiles

    def integrate(self, run: SlideRun) -> None:
        complete = (run.tile_class == TileClass.WEAK) & ~run.decided_early
        integrated = self._integrator.integrate(run.p_folds[complete])
        run.tile_class[complete] = np.where(integrated.strong, TileClass.STRONG, TileClass.WEAK)
        run.p_strong[complete] = run.least_p_strong[complete] = integrated.p_strong

    def call(self, run: SlideRun, findings: SlideFindings, rules: PipelineRules) -> SlideCall:
        # Where only bounds of the probability are known, both lead to the same result.
        tiles = find_tumor_tiles(run.tile_class, run.tumor_pixels, run.least_p_strong, run.p_folds)
        counts = TileCounts(tiles.tumor_pixels, tiles.strong)
        obstacle = find_obstacle(
            counts,
            findings.quality,
            findings.unread,
            rules.evaluable,
            scale=findings.scale,
            threshold=rules.threshold,
        )
        score = score_slide(
            counts,
            obstacle=obstacle,
            threshold=rules.threshold,
            tile_cut=rules.tile_cut,
            interval=_interval(tiles, rules),
        )
        early = None if self._early_decision is None else int(run.decided_early.sum())
        return SlideCall(
            with_ihc_zone(score, rules.ihc_zone),
            unread_could_change_call(counts, findings.unread.pixels, rules.threshold),
            tiles_decided_early=early,
        )


def _interval(tiles: TumorTiles, rules: PipelineRules) -> Interval | None:
    """Return the calibrated interval if the bundle has a calibration, else a bootstrap's."""
    if len(tiles) == 0:
        return None
    if rules.interval is None:
        return block_bootstrap_interval(tiles, seed=rules.bootstrap_seed)
    return conformal_interval(tiles, rules.interval, rules.tile_cut, rules.threshold)
