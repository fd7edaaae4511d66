"""The effect of half precision on the shipped bundle's results, measured without a GPU.

torch on the CPU computes the same cast operators as a GPU would; its speed has no meaning.

make bench        prints the parity figures of torch in fp32, fp16 and bf16
"""

from pathlib import Path

import numpy as np
import pytest

from her2d.bundle.loading import load_bundle
from her2d.inference.options import EngineOptions
from her2d.inference.parity import measure_parity, reference_findings
from her2d.inference.torch_engine import TorchEngine
from her2d.simulator.plan import plan_cohort
from her2d.simulator.render import render_region

pytestmark = pytest.mark.benchmark
SHIPPED = Path(__file__).parents[2] / "engines" / "her2net-demo"


@pytest.fixture(scope="module")
def tiles() -> np.ndarray:
    plans = plan_cohort(4, 99, positive_fraction=0.5, width=2048, height=2048)
    places = [(x, 768) for x in (512, 1024)]
    return np.stack([render_region(plan, x, y, 512, 512).rgb for plan in plans for x, y in places])


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_the_shipped_bundle_stays_within_its_tolerance(tiles, precision):
    bundle = load_bundle(SHIPPED)
    engine = TorchEngine(bundle, EngineOptions(precision=precision), "cpu")
    parity = measure_parity(
        bundle, reference_findings(bundle, tiles), engine, tiles, verified_on="cpu"
    )
    print(f"\n{precision}: {parity}")
    assert parity.refusal(bundle.manifest.tolerance) is None
