"""int8 against fp32 on ONNX Runtime's CPU: tiles per second, and the change of P on a cohort.

make bench        prints ratios of one run, measured alternately, and the parity figures
"""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from her2d.bundle.integrator import Integrator
from her2d.bundle.loading import load_bundle
from her2d.inference.compiler.compile import CompileOrder, TilesToTry, compile_bundle
from her2d.inference.compiler.quantize import quantized
from her2d.inference.options import EngineOptions
from her2d.inference.plans import Profile
from her2d.inference.selection import open_engine
from her2d.pipeline.her2net import Her2Net
from her2d.pipeline.outcome import TileClass
from her2d.pipeline.pipeline import Pipeline
from her2d.research.networks.build import build_classifier, build_segmenter
from her2d.research.networks.export import export_classifiers, export_segmenter
from her2d.simulator.motic import write_he_slide
from her2d.simulator.plan import plan_cohort
from her2d.simulator.render import render_region

pytestmark = pytest.mark.benchmark
SHIPPED = Path(__file__).parents[2] / "engines" / "her2net-demo"
SLIDES, SIDE = 6, 2048
REPEATS, BATCH = 7, 4
LARGEST_CHANGE = 0.5


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    """The bundle, its engines in fp32 and int8 with one thread each, and a batch of tiles."""
    folder = Path(shutil.copytree(SHIPPED, tmp_path_factory.mktemp("int8") / "demo"))
    plans = plan_cohort(3, 99, positive_fraction=0.5, width=2048, height=2048)
    tiles = np.stack(
        [render_region(plan, x, 768, 512, 512).rgb for plan in plans for x in (512, 1024)]
    )
    bundle = load_bundle(folder)
    profile = Profile(best=BATCH, most=BATCH)
    order = CompileOrder("onnxruntime", "int8", profile, profile)
    compiled = compile_bundle(bundle, order, TilesToTry(tiles[::2], tiles[1::2]))
    print(f"\ncomparison, {compiled.sidecar.parity}")
    options = [EngineOptions(precision=precision, threads=1) for precision in ("fp32", "int8")]
    both = [open_engine(bundle, backend="onnxruntime", options=option) for option in options]
    yield bundle, both, tiles[:BATCH]
    for engine in both:
        engine.close()


@pytest.mark.parametrize("part", ["segment", "classify"])
def test_tiles_per_second_of_the_shipped_bundle(engines, part):
    _, both, tiles = engines
    alternately(f"shipped bundle, {part}", [getattr(engine, part) for engine in both], tiles)


@pytest.mark.parametrize("part", ["segmenter", "classifiers"])
def test_tiles_per_second_of_the_papers_networks(part, tmp_path):
    """SegNet, and one of the five ResNet50. Weights are random; only the speed has a meaning."""
    export, network = {
        "segmenter": (export_segmenter, build_segmenter("segnet")),
        "classifiers": (export_classifiers, [build_classifier("resnet50")]),
    }[part]
    export(network, tmp_path / "fp32.onnx", mean=(0.75, 0.6, 0.78), std=(0.16, 0.18, 0.12))
    tile = np.random.default_rng(0).integers(0, 256, (1, 512, 512, 3), dtype=np.uint8)
    onnx.save(quantized(onnx.load(tmp_path / "fp32.onnx"), tile), tmp_path / "int8.onnx")
    runs = []
    for precision in ("fp32", "int8"):
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        session = ort.InferenceSession(tmp_path / f"{precision}.onnx", options)
        runs.append(lambda tiles, session=session: session.run(None, {"tiles": tiles}))
    alternately(f"full size, {part}", runs, tile)


def alternately(what: str, runs: list[Callable], tiles: np.ndarray) -> None:
    """Print the rates of fp32 and int8 and their ratio; the first repeat warms up."""
    seconds = np.empty((REPEATS, 2))
    for repeat in range(REPEATS):
        for which, run in enumerate(runs):
            started = time.perf_counter()
            run(tiles)
            seconds[repeat, which] = time.perf_counter() - started
    fp32, int8 = len(tiles) / np.median(seconds[1:], axis=0)
    ratios = seconds[1:, 0] / seconds[1:, 1]
    print(
        f"\n{what}: fp32 {fp32:.2f}, int8 {int8:.2f} tiles per second; int8 is"
        f" {np.median(ratios):.2f} times as fast ({ratios.min():.2f} to {ratios.max():.2f})"
    )
    assert (seconds > 0).all()


def test_p_moves_less_than_half_a_percentage_point_on_a_simulated_cohort(engines, tmp_path):
    bundle, both, _ = engines
    plans = plan_cohort(SLIDES, 4242, positive_fraction=0.5, width=SIDE, height=SIDE)
    changes = []
    for plan in plans:
        write_he_slide(plan, tmp_path / "slide.tif")
        outcomes = []
        for engine in both:
            with Pipeline(Her2Net(engine, Integrator(bundle))) as pipeline:
                outcomes.append(pipeline.submit(tmp_path / "slide.tif").result())
        fp32, int8 = (outcome.score.high_expression_percent for outcome in outcomes)
        tumor = outcomes[0].count(TileClass.WEAK, TileClass.STRONG)
        print(f"\n{plan.name}: {tumor} tumour tiles, P fp32 {fp32}, int8 {int8}")
        assert (fp32 is None) == (int8 is None)
        changes.append(abs(fp32 - int8) if fp32 is not None and int8 is not None else 0.0)
    print(f"largest change of P: {max(changes):.3f} percentage points (limit: {LARGEST_CHANGE})")
    assert max(changes) < LARGEST_CHANGE
