"""Print tiles per second of ONNX Runtime's CUDA provider, beside her2d's torch engine.

Usage: onnxruntime_cuda.py BUNDLE [BATCH...]
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch  # loads the CUDA libraries that the provider needs
import numpy as np
import onnx
import onnxruntime

from her2d.bundle.loading import load_bundle
from her2d.inference.compiler.cast_precision import cast_to_precision
from her2d.inference.options import EngineOptions
from her2d.inference.selection import open_engine
from her2d.method import TILE_PX

REPEATS, READING_S = 3, 0.4
DTYPES = {"tensor(int32)": np.int32, "tensor(uint8)": np.uint8, "tensor(float)": np.float32}
PROVIDER = "CUDAExecutionProvider"


def opened(path: Path, half: bool, graph: bool) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    cuda = {
        "prefer_nhwc": "1",
        "cudnn_conv_algo_search": "HEURISTIC",
        "enable_cuda_graph": str(int(graph)),
    }
    model = onnx.load(path)
    model = cast_to_precision(model, "fp16") if half else model
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=[(PROVIDER, cuda)]
    )
    if session.get_providers()[0] != PROVIDER:
        raise RuntimeError("the CUDA provider was not loaded")
    return session


def bound(session: onnxruntime.InferenceSession, tiles: np.ndarray) -> Callable[[], object]:
    """Return a call that, like an engine of her2d, takes tiles from and to host memory."""
    binding = session.io_binding()
    there = onnxruntime.OrtValue.ortvalue_from_numpy(tiles, "cuda", 0)
    binding.bind_ortvalue_input("tiles", there)
    for output in session.get_outputs():
        shape = [len(tiles), *output.shape[1:]]
        value = onnxruntime.OrtValue.ortvalue_from_shape_and_type(
            shape, DTYPES[output.type], "cuda", 0
        )
        binding.bind_ortvalue_output(output.name, value)

    def run() -> object:
        there.update_inplace(tiles)
        session.run_with_iobinding(binding)
        return binding.copy_outputs_to_cpu()

    return run


def rate(run: Callable[[], object], batch: int) -> str:
    run()
    run()
    found = []
    for _ in range(REPEATS):
        calls, started = 0, time.perf_counter()
        while time.perf_counter() - started < READING_S:
            run()
            calls += 1
        found.append(calls * batch / (time.perf_counter() - started))
    return f"{np.median(found):.1f}"


def compare(bundle, batch: int) -> None:
    shape = (batch, TILE_PX, TILE_PX, 3)
    tiles = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    for half, graph in ((False, False), (True, False), (True, True)):
        name = f"onnxruntime CUDA {'fp16' if half else 'fp32'}{', CUDA graph' if graph else ''}"
        found = []
        for path in (bundle.segmenter, bundle.classifiers):
            try:
                found.append(rate(bound(opened(path, half, graph), tiles), batch))
            except (RuntimeError, ValueError) as error:
                found.append(str(error).splitlines()[0][:120])
        print(f"| {name} | {batch} | {' | '.join(found)} |", flush=True)
    options = EngineOptions(precision="fp16", segmenter_batch=batch, classifier_batch=batch)
    engine = open_engine(bundle, backend="torch", options=options)
    found = [
        rate(lambda: engine.segment(tiles), batch),
        rate(lambda: engine.classify(tiles), batch),
    ]
    print(f"| her2d torch fp16, CUDA graphs | {batch} | {' | '.join(found)} |", flush=True)
    engine.close()


print(f"onnxruntime {onnxruntime.__version__}, torch {torch.__version__}", flush=True)
print(torch.cuda.get_device_name())
print("| engine | batch | segmenter tiles/s | classifiers tiles/s |")
print("| --- | --- | --- | --- |")
chosen = load_bundle(Path(sys.argv[1]))
for size in [int(given) for given in sys.argv[2:]] or [1, 8, 32]:
    compare(chosen, size)
