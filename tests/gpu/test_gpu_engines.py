"""Every GPU back end on a real device: the same numbers, and nothing left behind."""

import numpy as np
import pytest
from structlog.testing import capture_logs

from her2d.inference import EngineError, EngineOptions, Integrator, open_engine
from her2d.inference.compiler import CompileOrder, TilesToTry, compile_bundle
from her2d.inference.onnxruntime_engine import OnnxRuntimeEngine
from her2d.inference.parity import measure_parity
from her2d.inference.plans import Profile
from her2d.pipeline import Limits, Pipeline

pytestmark = pytest.mark.gpu
LIMITS = Limits(segmenter_batch=4, classifier_batch=4, batch_wait_s=0.05)


@pytest.fixture(params=["tensorrt", "tensorrt_rtx"])
def compiled(request, gpu, slim_bundle, tissue):
    """The bundle with a verified fp16 plan for one TensorRT."""
    pytest.importorskip(request.param)
    pytest.importorskip("pycuda.driver")
    if request.param == "tensorrt_rtx" and gpu.compute_capability.startswith("9."):
        pytest.skip(f"TensorRT for RTX does not list {gpu.name} ({gpu.compute_capability})")
    profile = Profile(best=4, most=8)
    order = CompileOrder(request.param, "fp16", profile, profile)
    made = compile_bundle(slim_bundle, order, TilesToTry(tissue[::2], tissue[1::2]))
    assert made.sidecar.verified_on == gpu.name
    return slim_bundle, request.param


@pytest.mark.parametrize(("precision", "max_dp"), [("fp32", 1e-4), ("fp16", 0.02), ("bf16", 0.05)])
def test_torch_on_the_gpu_agrees_with_onnxruntime(gpu, slim_bundle, tissue, precision, max_dp):
    engine = open_engine(slim_bundle, backend="torch", options=EngineOptions(precision=precision))
    parity = measure_parity(slim_bundle, engine, tissue, verified_on=gpu.name)
    assert parity.mask_agreement > 0.99
    assert parity.max_dp <= max_dp
    engine.close()


def test_a_captured_batch_computes_each_new_batch_afresh(gpu, slim_bundle, tissue):
    engine = open_engine(slim_bundle, backend="torch", options=EngineOptions(classifier_batch=4))
    reference = OnnxRuntimeEngine(slim_bundle)
    for start in (0, 4, 0):
        batch = tissue[start : start + 4]
        assert engine.classify(batch) == pytest.approx(reference.classify(batch), abs=1e-4)
    engine.close()


def test_a_tensorrt_plan_scores_a_slide_as_onnxruntime_does(compiled, tissue, write_slide):
    bundle, backend = compiled
    path = write_slide(["SwS", "wSh"])
    percents = []
    for name in ("onnxruntime", backend):
        precision = "fp16" if name == backend else "fp32"
        engine = open_engine(bundle, backend=name, options=EngineOptions(precision=precision))
        with Pipeline(engine, Integrator(bundle), limits=LIMITS) as pipeline:
            percents.append(pipeline.submit(path).result().score.high_expression_percent)
        engine.close()
    assert percents[0] == pytest.approx(percents[1], abs=0.5)


def test_kept_tiles_are_classified_where_they_are(compiled, tissue):
    bundle, backend = compiled
    engine = open_engine(bundle, backend=backend, options=EngineOptions(precision="fp16"))
    batch = engine.upload(list(tissue[:4]))
    batch.segment()
    kept = [batch.keep(2), batch.keep(0)]
    batch.release()
    assert engine.classify_kept(kept) == pytest.approx(engine.classify(tissue[[2, 0]]), abs=1e-3)
    engine.close()


def test_full_batches_of_tensorrt_are_captured_and_each_is_computed_afresh(compiled, tissue):
    bundle, backend = compiled
    if backend == "tensorrt_rtx":
        pytest.skip("it captures its graphs by itself")
    with capture_logs() as logs:
        engine = open_engine(bundle, backend=backend, options=EngineOptions(precision="fp16"))
    assert [entry for entry in logs if entry["event"] == "cuda_graph_not_used"] == []
    alone = [engine.classify(tile[None])[0] for tile in tissue]
    for start in (0, 4, 0):
        found = engine.classify(tissue[start : start + 4])
        assert found == pytest.approx(np.stack(alone[start : start + 4]), abs=0.02)
    engine.close()


def test_closing_gives_the_device_its_memory_back(compiled, tissue):
    import pycuda.driver as cuda

    bundle, backend = compiled
    options = EngineOptions(precision="fp16")
    # The first opening loads libraries that stay.
    open_engine(bundle, backend=backend, options=options).close()
    context = cuda.Device(0).retain_primary_context()
    context.push()
    try:
        before, _ = cuda.mem_get_info()
        for _ in range(3):
            engine = open_engine(bundle, backend=backend, options=options)
            engine.segment(tissue[:4])
            engine.close()
        after, _ = cuda.mem_get_info()
    finally:
        cuda.Context.pop()
        context.detach()
    assert abs(before - after) < 64 << 20


def test_tensorrt_for_rtx_says_why_it_refuses_a_card_it_does_not_list(gpu, slim_bundle, tissue):
    pytest.importorskip("tensorrt_rtx")
    pytest.importorskip("pycuda.driver")
    if not gpu.compute_capability.startswith("9."):
        pytest.skip(f"it lists {gpu.name}")
    profile = Profile(best=4, most=4)
    order = CompileOrder("tensorrt_rtx", "fp16", profile, profile)
    with pytest.raises(EngineError, match="tensorrt_rtx"):
        compile_bundle(slim_bundle, order, TilesToTry(tissue[::2], tissue[1::2]))


def test_auto_takes_the_gpu(gpu, slim_bundle, tissue):
    pytest.importorskip("torch")
    engine = open_engine(slim_bundle, backend="auto")
    assert engine.backend != "onnxruntime"
    assert np.isfinite(engine.classify(tissue[:1])).all()
    engine.close()
