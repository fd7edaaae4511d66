"""Measure how many runs of sub-classifiers early decisions save, and what the decisions cost.

python -m tools.early_decisions
"""

import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
import skops.io
import typer
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score

from her2d.api import Scorer
from her2d.bundle.forest import Forest
from her2d.bundle.forest_archive import read_forest
from her2d.bundle.integrator import Integrator
from her2d.bundle.loading import load_bundle
from her2d.bundle.manifest import Interval
from her2d.inference.engine import Engine
from her2d.inference.onnxruntime_engine import OnnxRuntimeEngine
from her2d.method import FOLDS
from her2d.pipeline.early_decision import EarlyDecision
from her2d.settings import PACKAGE_DATA
from her2d.simulator.motic import write_he_slide
from her2d.simulator.plan import plan_slide

_BUNDLE = PACKAGE_DATA / "her2net-demo"
_TILES = 4000
_REPEATS = 7
_CALLS = 20


@dataclass(frozen=True, slots=True)
class Saving:
    """What early decisions save on some tiles.

    Attributes:
        saved: share of the sub-classifiers' runs.
        by_runs: share of tiles for which 1 to 5 sub-classifiers ran.
    """

    saved: float
    by_runs: tuple[float, ...]


def saving(early: EarlyDecision, p_folds: NDArray[np.float32]) -> Saving:
    """Return what early decisions save on tiles of known probabilities."""
    ran = np.full(len(p_folds), FOLDS)
    left = np.arange(len(p_folds))
    for number in range(1, FOLDS):
        decided = early.decide(p_folds[left], number).decided
        ran[left[decided]] = number
        left = left[~decided]
    shares = np.bincount(ran, minlength=FOLDS + 1)[1:] / len(ran)
    return Saving(1 - float(ran.mean()) / FOLDS, tuple(map(float, shares)))


def modelled(rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Draw tiles of which 30 % are strong, seen by five correlated folds of AUROC 0.94 each."""
    strong = rng.random(_TILES) < 0.3
    shared, own = rng.normal(size=(_TILES, 1)), rng.normal(size=(_TILES, FOLDS))
    evidence = 2.2 * strong[:, None] + (shared + own) / np.sqrt(2)
    p = 1 / (1 + np.exp(-1.8 * (evidence - 1.6)))
    return p.astype(np.float32), strong.astype(np.int64)


def fitted_forest(depth: int | None) -> tuple[Forest, NDArray[np.float32], float]:
    """Return a forest, tiles that it has not seen, and the folds' mean AUROC on these."""
    rng = np.random.default_rng(0)
    learned, other = modelled(rng), modelled(rng)
    model = RandomForestClassifier(100, max_depth=depth, min_samples_leaf=5, random_state=0)
    forest = read_forest(skops.io.dumps(model.fit(*learned), compression=zipfile.ZIP_DEFLATED))
    if forest is None:
        raise RuntimeError("scikit-learn's forest cannot be read")
    aurocs = [roc_auc_score(other[1], other[0][:, fold]) for fold in range(FOLDS)]
    return forest, other[0], float(np.mean(aurocs))


def shipped_tiles() -> NDArray[np.float32]:
    """Return the sub-classifiers' probabilities for the tumour tiles of four simulated slides."""
    found = []
    with TemporaryDirectory() as folder, Scorer(_BUNDLE) as scorer:
        for seed in range(4):
            slide = Path(folder, f"{seed}.tif")
            status: Literal["positive", "negative"] = "negative" if seed % 2 else "positive"
            plan = plan_slide(str(seed), seed, her2_status=status, width=4096, height=3072)
            write_he_slide(plan, slide)
            tiles = scorer.score(slide).tiles
            found.append(tiles.p_folds[tiles.tumor])
    return np.concatenate(found)


def cpu_ms(work: Callable[[], object]) -> float:
    """Return the median CPU milliseconds of a call."""
    taken = []
    for _ in range(_REPEATS):
        started = time.process_time()
        work()
        taken.append(1000 * (time.process_time() - started))
    return median(taken)


def cost_us(early: EarlyDecision, p_folds: NDArray[np.float32], batch: int) -> Iterator[float]:
    """Yield the CPU microseconds for a tile, after each sub-classifier but the last."""
    for ran in range(1, FOLDS):
        decide = partial(early.decide, p_folds[:batch], ran)
        yield 1000 * cpu_ms(partial(_repeat, decide)) / _CALLS / batch


def _repeat(work: Callable[[], object]) -> None:
    for _ in range(_CALLS):
        work()


def engine_ms() -> tuple[float, float]:
    """Return a tile's CPU milliseconds for all five at once, and for one after another."""
    bundle = load_bundle(_BUNDLE)
    at_once = OnnxRuntimeEngine(bundle, threads=1)
    apart = OnnxRuntimeEngine(bundle, threads=1, separate_folds=True)
    tiles = np.random.default_rng(0).integers(0, 256, (1, 512, 512, 3), dtype=np.uint8)

    def together(engine: Engine) -> Callable[[], object]:
        return lambda: engine.classify(tiles)

    # Alternately, so that a busy machine slows both.
    rounds = [(cpu_ms(together(at_once)), cpu_ms(together(apart))) for _ in range(3)]
    return median(one for one, _ in rounds), median(other for _, other in rounds)


def main() -> None:
    """Print the tables in Markdown."""
    columns = ("forest", "nodes", "saved", "tiles by runs, 1 to 5", "us alone", "us of 32")
    typer.echo(f"| {' | '.join(columns)} |")
    typer.echo(f"|{' --- |' * len(columns)}")
    bundle = load_bundle(_BUNDLE)
    integrator, tiles = Integrator(bundle), shipped_tiles()
    forest, calibration = integrator.forest, bundle.manifest.interval
    if forest is None or calibration is None:
        raise RuntimeError("the shipped bundle has no forest or no calibration")
    scale = calibration.scale.model_copy(update={"disagreement": 0.0})
    near_only = calibration.model_copy(update={"scale": scale})
    _row(f"shipped, depth 2, {len(tiles)} tiles", forest, tiles, integrator.tile_cut, None)
    _row("the same, interval by tiles near the cut", forest, tiles, integrator.tile_cut, near_only)
    for depth in (2, 4, None):
        forest, tiles, auroc = fitted_forest(depth)
        name = "unlimited" if depth is None else str(depth)
        _row(f"modelled folds of AUROC {auroc:.2f}, depth {name}", forest, tiles, 0.5, None)
    at_once, apart = engine_ms()
    typer.echo(
        f"\nShipped sub-classifiers, one tile, one thread: {at_once:.1f} ms at once,"
        f" {apart:.1f} ms one after another."
    )


def _row(
    name: str,
    forest: Forest,
    tiles: NDArray[np.float32],
    tile_cut: float,
    interval: Interval | None,
) -> None:
    early = EarlyDecision(forest, tile_cut, interval)
    found = saving(early, tiles)
    by_runs = ", ".join(f"{share:.0%}" for share in found.by_runs)
    alone, together = (
        " / ".join(f"{cost:.0f}" for cost in cost_us(early, tiles, batch)) for batch in (1, 32)
    )
    nodes = sum(len(tree.left) for tree in forest.trees)
    typer.echo(f"| {name} | {nodes:,} | {found.saved:.0%} | {by_runs} | {alone} | {together} |")


if __name__ == "__main__":
    main()
