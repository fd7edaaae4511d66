"""Print how far each precision of torch on CUDA is from ONNX Runtime in fp32, on simulated tiles.

Usage: parity.py BUNDLE [TILES]
"""

import sys
from pathlib import Path

import numpy as np

from her2d.bundle.integrator import Integrator
from her2d.bundle.loading import load_bundle
from her2d.inference.engine import EngineError
from her2d.inference.onnxruntime_engine import OnnxRuntimeEngine
from her2d.inference.options import EngineOptions
from her2d.inference.parity import compare, findings
from her2d.inference.selection import open_engine
from her2d.simulator.plan import plan_cohort
from her2d.simulator.render import render_region

bundle = load_bundle(Path(sys.argv[1]))
wanted = int(sys.argv[2]) if len(sys.argv) > 2 else 64
plans = plan_cohort(wanted // 8, 99, positive_fraction=0.5, width=3072, height=3072)
tiles = np.stack(
    [
        render_region(plan, 768 + 512 * (i % 3), 768 + 512 * (i // 3), 512, 512).rgb
        for plan in plans
        for i in range(8)
    ]
)
reference = OnnxRuntimeEngine(bundle)
expected = findings(reference, tiles)
reference.close()
tumor_fraction = bundle.manifest.preprocessing.tumor_fraction
print("| precision | tiles | mask agreement | max |dp| | changed tiles | change in P (points) |")
print("| --- | --- | --- | --- | --- | --- |")
for precision in ("fp32", "fp16", "bf16"):
    try:
        engine = open_engine(bundle, backend="torch", options=EngineOptions(precision=precision))
        found = findings(engine, tiles)
        engine.close()
    except EngineError as error:
        print(f"| {precision} | {error} |")
        continue
    parity = compare(
        expected, found, Integrator(bundle), tumor_fraction=tumor_fraction, verified_on="cuda"
    )
    change = "no tumour" if parity.change_in_p is None else f"{parity.change_in_p:.4f}"
    print(
        f"| {precision} | {parity.tiles} | {parity.mask_agreement:.6f} | {parity.max_dp:.6f} |"
        f" {parity.changed_tiles:.1%} | {change} |"
    )
