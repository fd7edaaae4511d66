"""The choice of a back end, and the reasons against the others."""

import shutil
import subprocess
import sys

import pytest
from captured_logs import capture_logs

from her2d.bundle.loading import load_bundle
from her2d.inference.backends import candidates
from her2d.inference.engine import EngineError
from her2d.inference.options import EngineOptions
from her2d.inference.plans import PlanFiles
from her2d.inference.selection import open_engine, unused_plans
from her2d.processing.processor import open_processor
from her2d.settings import InferenceSettings, Settings


def test_the_back_ends_are_listed_best_first_each_with_its_reason(color_bundle):
    found = candidates(color_bundle, EngineOptions())
    names = [item.name for item in found]
    assert names == ["tensorrt", "tensorrt_rtx", "torch", "openvino", "onnxruntime"]
    assert all(item.reason for item in found)
    assert found[-1].usable


@pytest.mark.usefixtures("without_gpu")
def test_auto_chooses_onnxruntime_and_logs_why_nothing_better_works(color_bundle):
    with capture_logs() as logs:
        engine = open_engine(color_bundle, backend="auto", threads=1)
    engine.close()
    assert engine.backend == "onnxruntime"
    (chosen,) = [line for line in logs if line["event"] == "backend_chosen"]
    assert list(chosen["passed_over"]) == ["tensorrt", "tensorrt_rtx", "torch", "openvino"]
    assert "NVIDIA driver" in chosen["passed_over"]["torch"]


@pytest.mark.usefixtures("without_gpu")
def test_a_compiled_plan_that_is_not_used_is_a_warning_and_is_counted(color_bundle, tmp_path):
    shutil.copytree(color_bundle.directory, tmp_path / "bundle")
    bundle = load_bundle(tmp_path / "bundle")
    plan = PlanFiles(bundle, "tensorrt", "fp16")
    plan.sidecar.write_text("{}")
    with capture_logs() as logs:
        engine = open_engine(bundle, backend="auto", threads=1)
    engine.close()
    (line,) = [line for line in logs if line["event"] == "plan_not_used"]
    assert (line["level"], line["plan"]) == ("warning", "tensorrt-fp16")
    assert (line["backend"], bool(line["reason"])) == ("onnxruntime", True)
    assert unused_plans(bundle, "auto", engine.backend, EngineOptions()) == (plan,)
    settings = Settings(inference=InferenceSettings(threads=1))
    with open_processor(bundle, settings) as processor:
        assert processor.unused_plans == (plan,)
    chosen = Settings(inference=InferenceSettings(threads=1, backend="onnxruntime"))
    with open_processor(bundle, chosen) as processor:
        assert processor.unused_plans == ()


def test_a_plan_that_is_used_or_slower_is_not_unused(color_bundle, tmp_path):
    shutil.copytree(color_bundle.directory, tmp_path / "bundle")
    bundle = load_bundle(tmp_path / "bundle")
    PlanFiles(bundle, "tensorrt_rtx", "fp16").sidecar.write_text("{}")
    options = EngineOptions()
    assert unused_plans(bundle, "auto", "tensorrt-fp16", options) == ()
    assert unused_plans(bundle, "auto", "tensorrt_rtx-fp16", options) == ()
    assert len(unused_plans(bundle, "auto", "torch-bf16", options)) == 1
    assert unused_plans(color_bundle, "auto", "onnxruntime", options) == ()


@pytest.mark.usefixtures("without_gpu")
def test_a_precision_that_nothing_here_has_ends_with_every_reason(color_bundle):
    options = EngineOptions(precision="fp16", threads=1)
    with pytest.raises(EngineError, match=r"torch: There is no NVIDIA driver.*fp32 and int8"):
        open_engine(color_bundle, backend="auto", options=options)


@pytest.mark.usefixtures("without_gpu")
def test_torch_is_refused_where_it_has_no_gpu_to_run_on(color_bundle):
    with pytest.raises(EngineError, match="no CUDA device"):
        open_engine(color_bundle, backend="torch")


@pytest.mark.slow
def test_the_running_daemon_never_imports_torch(color_bundle):
    script = f"""
import sys
from pathlib import Path
import her2d.daemon.service
from her2d.bundle.loading import load_bundle
from her2d.inference.backends import candidates
from her2d.inference.options import EngineOptions
from her2d.inference.selection import open_engine
bundle = load_bundle(Path({str(color_bundle.directory)!r}))
candidates(bundle, EngineOptions())
open_engine(bundle, backend="onnxruntime", threads=1).close()
print(sorted({{"torch", "onnx", "tensorrt_rtx", "tensorrt"}} & set(sys.modules)))
"""
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    assert ran.stdout.strip() == "[]"
