"""Every GPU back end on a real device: the same results, and nothing left behind."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from captured_logs import capture_logs

from her2d.bundle.integrator import Integrator
from her2d.bundle.loading import load_bundle
from her2d.inference.backends import candidate
from her2d.inference.compiler.compile import CompileOrder, TilesToTry, compile_bundle
from her2d.inference.engine import EngineError
from her2d.inference.onnxruntime_engine import OnnxRuntimeEngine
from her2d.inference.options import EngineOptions
from her2d.inference.parity import measure_parity, reference_findings
from her2d.inference.plans import PlanFiles, Profile, read_sidecar, write_sidecar
from her2d.inference.selection import open_engine
from her2d.pipeline.her2net import Her2Net
from her2d.pipeline.pipeline import Pipeline
from her2d.pipeline.rules import Limits, rules_of

pytestmark = pytest.mark.gpu
SHIPPED = Path(__file__).parents[2] / "engines" / "her2net-demo"
LIMITS = Limits(segmenter_batch=4, classifier_batch=4, batch_wait_s=0.05)


@pytest.fixture
def torch_cuda(gpu):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch finds no CUDA device")


@pytest.mark.parametrize(("precision", "max_dp"), [("fp32", 1e-4), ("fp16", 0.02), ("bf16", 0.05)])
def test_torch_on_the_gpu_agrees_with_onnxruntime(torch_cuda, gpu, tissue, precision, max_dp):
    # Trained networks: random ones leave so many pixels near a tie that bf16 decides 3 % otherwise.
    bundle = load_bundle(SHIPPED)
    engine = open_engine(bundle, backend="torch", options=EngineOptions(precision=precision))
    parity = measure_parity(
        bundle, reference_findings(bundle, tissue), engine, tissue, verified_on=gpu.name
    )
    assert parity.mask_agreement > 0.99
    assert parity.max_dp <= max_dp
    engine.close()


def test_a_captured_batch_computes_each_new_batch_afresh(torch_cuda, slim_bundle, tissue):
    engine = open_engine(slim_bundle, backend="torch", options=EngineOptions(classifier_batch=4))
    reference = OnnxRuntimeEngine(slim_bundle)
    for start in (0, 4, 0):
        batch = tissue[start : start + 4]
        assert engine.classify(batch) == pytest.approx(reference.classify(batch), abs=1e-4)
    engine.close()


def test_a_tensorrt_plan_scores_a_slide_as_onnxruntime_does(compiled, backend, write_slide):
    path = write_slide(["SwS", "wSh"])
    percents = []
    for name in ("onnxruntime", backend):
        precision = "fp16" if name == backend else "fp32"
        engine = open_engine(compiled, backend=name, options=EngineOptions(precision=precision))
        with Pipeline(
            Her2Net(engine, Integrator(compiled)), rules_of(compiled), LIMITS
        ) as pipeline:
            percents.append(pipeline.submit(path).result().score.high_expression_percent)
        engine.close()
    assert percents[0] == pytest.approx(percents[1], abs=0.5)


def test_kept_tiles_are_classified_where_they_are(compiled, backend, tissue):
    engine = open_engine(compiled, backend=backend, options=EngineOptions(precision="fp16"))
    batch = engine.upload(list(tissue[:4]))
    batch.segment()
    kept = [batch.keep(2), batch.keep(0)]
    batch.release()
    assert engine.classify_kept(kept) == pytest.approx(engine.classify(tissue[[2, 0]]), abs=1e-3)
    engine.close()


def test_full_batches_of_tensorrt_are_captured_and_each_is_computed_afresh(
    compiled, backend, tissue
):
    if backend == "tensorrt_rtx":
        pytest.skip("it captures its graphs by itself")
    with capture_logs() as logs:
        engine = open_engine(compiled, backend=backend, options=EngineOptions(precision="fp16"))
    assert [entry for entry in logs if entry["event"] == "cuda_graph_not_used"] == []
    alone = [engine.classify(tile[None])[0] for tile in tissue]
    for start in (0, 4, 0):
        found = engine.classify(tissue[start : start + 4])
        assert found == pytest.approx(np.stack(alone[start : start + 4]), abs=0.02)
    engine.close()


def test_closing_gives_the_device_its_memory_back(compiled, backend, tissue):
    import pycuda.driver as cuda

    from her2d.inference.cuda.pycuda_device import PyCudaDevice

    options = EngineOptions(precision="fp16")
    # The first opening loads libraries that stay.
    open_engine(compiled, backend=backend, options=options).close()
    device = PyCudaDevice()
    with device.current():
        before, _ = cuda.mem_get_info()
        for _ in range(3):
            engine = open_engine(compiled, backend=backend, options=options)
            engine.segment(tissue[:4])
            engine.close()
        after, _ = cuda.mem_get_info()
    device.close()
    assert abs(before - after) < 64 << 20


def test_auto_takes_torch_where_there_is_no_plan(torch_cuda, slim_bundle):
    engine = open_engine(slim_bundle, backend="auto")
    assert engine.backend == "torch"
    engine.close()


def test_a_torch_without_cuda_is_passed_over_for_that_reason(gpu, slim_bundle):
    torch = pytest.importorskip("torch")
    if not torch.__version__.endswith("+cpu"):
        pytest.skip("torch has CUDA here")
    found = candidate("torch", slim_bundle, EngineOptions())
    assert not found.usable
    assert found.reason == f"torch {torch.__version__} was built without CUDA."


def test_tensorrt_for_rtx_gives_a_reason_for_refusing_a_card_it_does_not_support(
    gpu, slim_bundle, tissue
):
    pytest.importorskip("tensorrt_rtx")
    pytest.importorskip("pycuda.driver")
    if not gpu.compute_capability.startswith("9."):
        pytest.skip(f"it supports {gpu.name}")
    profile = Profile(best=4, most=4)
    order = CompileOrder("tensorrt_rtx", "fp16", profile, profile)
    with pytest.raises(EngineError, match="tensorrt_rtx"):
        compile_bundle(slim_bundle, order, TilesToTry(tissue[::2], tissue[1::2]))


def test_a_refused_plan_ends_before_the_context_it_was_loaded_in(
    is_simulated, compiled, backend, tmp_path
):
    if not is_simulated:
        pytest.skip("a real library does not report it")
    import tensorrt

    shutil.copytree(compiled.directory, tmp_path / "bundle")
    files = PlanFiles(load_bundle(tmp_path / "bundle"), backend, "fp16")
    sidecar = read_sidecar(files)
    other = sidecar.classifiers.model_copy(update={"profile": Profile(best=2, most=2)})
    write_sidecar(files, sidecar.model_copy(update={"classifiers": other}))
    with pytest.raises(EngineError, match="was built for batches of"):
        open_engine(files.bundle, backend=backend, options=EngineOptions(precision="fp16"))
    assert tensorrt.orphans == []


def test_auto_takes_the_plan(compiled, backend, tissue):
    engine = open_engine(compiled, backend="auto")
    assert engine.backend == f"{backend}-fp16"
    assert np.isfinite(engine.classify(tissue[:1])).all()
    engine.close()
