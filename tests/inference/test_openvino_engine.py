"""OpenVINO on the CPU, from compiled plans."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from captured_logs import capture_logs
from separable_bundle import SCALES, write_separable_bundle

from her2d.bundle.loading import load_bundle
from her2d.inference.backends import candidate
from her2d.inference.compiler.compile import (
    Compiled,
    CompileOrder,
    TilesToTry,
    compile_bundle,
    fastest_precision,
    platform_for,
)
from her2d.inference.engine import DeviceLostError, EngineError
from her2d.inference.onnxruntime_engine import OnnxRuntimeEngine
from her2d.inference.openvino_engine import OpenVinoNetwork, precision_problem
from her2d.inference.options import BatchSizes, EngineOptions
from her2d.inference.plan_engine import engine_of
from her2d.inference.plans import PlanError, PlanFiles, Profile, read_sidecar, write_sidecar
from her2d.inference.platforms import platform_of
from her2d.inference.selection import open_engine, unused_plans
from her2d.inference.ways import NetworkWays, PlanWays, Way, candidate_ways
from her2d.settings import PACKAGE_DATA
from her2d.system.cpus import usable_cpus

openvino = pytest.importorskip("openvino", reason="OpenVINO is not installed")

ONE_THREAD = EngineOptions(threads=1)
TILES = np.stack(
    [np.full((512, 512, 3), color, np.uint8) for color in ((60, 51, 0), (255, 255, 255))]
)


def processor(*capabilities: str) -> SimpleNamespace:
    """A module `openvino` on a processor that can compute in these precisions."""
    core = SimpleNamespace(get_property=lambda *_: list(capabilities))
    return SimpleNamespace(Core=lambda: core)


def has_bf16() -> bool:
    return precision_problem(openvino, "bf16") is None


@pytest.fixture(autouse=True)
def measured_briefly(monkeypatch):
    """What is measured when a plan is compiled decides only how fast it runs."""
    monkeypatch.setattr("her2d.inference.compiler.measure_ways._LEAST_S", 1e-6)
    monkeypatch.setattr("her2d.inference.compiler.measure_ways._ENOUGH_S", 0.0)


@pytest.fixture
def bundle(color_bundle, tmp_path):
    shutil.copytree(color_bundle.directory, tmp_path / "bundle")
    return load_bundle(tmp_path / "bundle")


@pytest.fixture
def compiled(bundle):
    """A function that compiles the bundle for OpenVINO in a precision."""

    def compile_in(precision):
        order = CompileOrder(
            "openvino", precision, Profile(best=4, most=4), Profile(best=4, most=4)
        )
        return compile_bundle(bundle, order, TilesToTry(calibration=TILES, check=TILES))

    return compile_in


def test_in_fp32_it_computes_what_onnxruntime_computes(bundle, compiled):
    plan, reference = compiled("fp32"), OnnxRuntimeEngine(bundle, threads=1)
    engine = engine_of(plan.files, plan.sidecar, ONE_THREAD)
    found, expected = engine.segment(TILES), reference.segment(TILES)
    assert engine.backend == "openvino"
    assert found.tumor_pixels.tolist() == expected.tumor_pixels.tolist()
    assert (found.mask == expected.mask).all()
    assert (found.mask.dtype, found.tumor_pixels.dtype) == (np.uint8, np.int32)
    assert engine.classify(TILES) == pytest.approx(reference.classify(TILES), abs=1e-6)


def test_while_a_plan_is_compared_one_engine_is_open_at_a_time(bundle, compiled, monkeypatch):
    references, open_meanwhile = [], []

    class Reference(OnnxRuntimeEngine):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            references.append(self)

        def close(self):
            super().close()
            references.remove(self)

    class Noting(OpenVinoNetwork):
        def __init__(self, *arguments):
            open_meanwhile.append(len(references))
            super().__init__(*arguments)

    monkeypatch.setattr("her2d.inference.onnxruntime_engine.OnnxRuntimeEngine", Reference)
    monkeypatch.setattr("her2d.inference.plan_engine.OpenVinoNetwork", Noting)
    plan = compiled("fp32")
    parity = plan.sidecar.parity.model_copy(update={"verified_on": "another processor"})
    elsewhere = plan.sidecar.model_copy(update={"parity": parity})
    plan.files.sidecar.write_text(elsewhere.model_dump_json())
    open_engine(bundle, backend="openvino", options=ONE_THREAD).close()
    assert len(open_meanwhile) >= 4
    assert not any(open_meanwhile)


def test_a_result_stays_as_it_was_when_the_next_batch_is_run(compiled):
    plan = compiled("fp32")
    engine = engine_of(plan.files, plan.sidecar, ONE_THREAD)
    first = engine.segment(TILES[:1])
    before = first.mask.copy()
    engine.segment(TILES[1:])
    assert (first.mask == before).all()
    assert not (engine.segment(TILES[1:]).mask == before).all()


ONE_BY_ONE = Way(batch=1, calls=1, threads=1)
SIDE_BY_SIDE = Way(batch=3, calls=3, threads=1)


def with_ways(sidecar, way, cpus, processor=None):
    measured = NetworkWays(chosen=way, tried=())
    ways = PlanWays(
        processor=processor or platform_of("openvino").device,
        cpus=cpus,
        segmenter=measured,
        classifiers=measured,
    )
    return sidecar.model_copy(update={"ways": ways})


@pytest.mark.parametrize("tiles", [1, 2, 3, 5])
def test_calls_side_by_side_compute_what_one_call_computes(compiled, tiles):
    plan = compiled("fp32")
    batch = np.stack([np.full((512, 512, 3), (60, 40 * i, 0), np.uint8) for i in range(tiles)])
    one, several = (
        engine_of(plan.files, with_ways(plan.sidecar, way, 3), EngineOptions(threads=3))
        for way in (ONE_BY_ONE, SIDE_BY_SIDE)
    )
    assert (several.segment(batch).mask == one.segment(batch).mask).all()
    assert several.segment(batch).tumor_pixels.tolist() == [512 * 512] * tiles
    assert (several.classify(batch) == one.classify(batch)).all()


def test_after_a_failed_batch_calls_side_by_side_compute_the_next(compiled):
    plan = compiled("fp32")
    sidecar = with_ways(plan.sidecar, SIDE_BY_SIDE, 3)
    engine = engine_of(plan.files, sidecar, EngineOptions(threads=3))
    with pytest.raises(EngineError, match="OpenVINO failed on a batch of 3 tiles"):
        engine.segment(np.zeros((3, 8, 8, 3), np.uint8))
    assert engine.segment(TILES).tumor_pixels.shape == (2,)


def test_a_plan_runs_as_was_measured_on_as_many_cpus_and_else_tile_by_tile(compiled):
    plan = compiled("fp32")
    assert plan.sidecar.ways is not None
    assert plan.sidecar.ways.cpus == usable_cpus()
    assert plan.sidecar.ways.processor == plan.sidecar.verified_on
    assert len(plan.sidecar.ways.segmenter.tried) == len(candidate_ways(usable_cpus()))
    assert read_sidecar(plan.files) == plan.sidecar
    sidecar = with_ways(plan.sidecar, SIDE_BY_SIDE, 3)
    for threads, batch in ((3, 3), (2, 1), (4, 1)):
        engine = engine_of(plan.files, sidecar, EngineOptions(threads=threads))
        assert engine.batches == BatchSizes(batch, batch)


def test_after_it_is_compared_on_another_processor_a_plan_runs_tile_by_tile(bundle, compiled):
    plan = compiled("fp32")
    sidecar = with_ways(plan.sidecar, SIDE_BY_SIDE, 3, processor="another processor")
    compared_elsewhere(Compiled(plan.files, sidecar))
    for _ in ("compared here", "compared before"):
        engine = open_engine(bundle, backend="openvino", options=EngineOptions(threads=3))
        engine.close()
        assert engine.batches == BatchSizes(1, 1)
    assert read_sidecar(plan.files).verified_on == plan.sidecar.verified_on


def test_without_a_plan_auto_passes_it_over(bundle):
    engine = open_engine(bundle, backend="auto", options=ONE_THREAD)
    assert engine.backend == "onnxruntime"
    with pytest.raises(PlanError, match=r"No plan was compiled.*--backend openvino"):
        open_engine(bundle, backend="openvino", options=ONE_THREAD)


def test_with_a_plan_auto_takes_it_before_onnxruntime(bundle, compiled):
    sidecar = compiled("fp32").sidecar
    assert sidecar.parity is not None
    assert open_engine(bundle, backend="auto", options=ONE_THREAD).backend == "openvino"


def test_a_plan_that_was_compared_on_another_processor_is_compared_again(bundle, compiled):
    plan = compiled("fp32")
    here = plan.sidecar.verified_on
    compared_elsewhere(plan)
    open_engine(bundle, backend="openvino", options=ONE_THREAD).close()
    assert read_sidecar(plan.files).verified_on == here


def compared_elsewhere(plan) -> None:
    """Let a plan have been compared with fp32 on another processor only."""
    parity = plan.sidecar.parity.model_copy(update={"verified_on": "another processor"})
    elsewhere = plan.sidecar.model_copy(update={"parity": parity})
    plan.files.sidecar.write_text(elsewhere.model_dump_json())


def test_a_plan_that_another_processor_cannot_compute_is_refused_before_any_comparison(
    bundle, compiled, monkeypatch
):
    plan = compiled("fp32")
    compared_elsewhere(as_bf16(plan))
    plan.files.sidecar.unlink()
    monkeypatch.setattr("her2d.inference.openvino_engine._capabilities", lambda _: ["FP32"])
    monkeypatch.setattr("her2d.inference.plan_engine.reference_findings", unwanted)
    found = candidate("openvino", bundle, ONE_THREAD)
    assert not found.usable
    assert "plan openvino-bf16 is refused. This processor has no instructions" in found.reason
    with pytest.raises(PlanError, match="no instructions for bf16"):
        open_engine(bundle, backend="openvino", options=ONE_THREAD)
    assert open_engine(bundle, backend="auto", options=ONE_THREAD).backend == "onnxruntime"


def test_a_plan_that_fails_the_comparison_on_this_processor_is_compared_once(
    bundle, compiled, monkeypatch
):
    plan = compiled("fp32")
    compared_elsewhere(plan)
    differing = plan.sidecar.parity.model_copy(update={"mask_agreement": 0.5})
    monkeypatch.setattr("her2d.inference.plan_engine.measure_parity", lambda *_, **__: differing)
    with pytest.raises(PlanError, match=r"mask agreement is 0\.5"):
        open_engine(bundle, backend="openvino", options=ONE_THREAD)
    monkeypatch.setattr("her2d.inference.plan_engine.reference_findings", unwanted)
    with pytest.raises(PlanError, match=r"mask agreement is 0\.5"):
        open_engine(bundle, backend="openvino", options=ONE_THREAD)
    assert not candidate("openvino", bundle, ONE_THREAD).usable
    assert open_engine(bundle, backend="auto", options=ONE_THREAD).backend == "onnxruntime"


def test_a_plan_that_another_processor_refused_is_compared_here(bundle, compiled):
    plan = compiled("fp32")
    differing = plan.sidecar.parity.model_copy(update={"mask_agreement": 0.5})
    compared_elsewhere(Compiled(plan.files, plan.sidecar.model_copy(update={"parity": differing})))
    assert open_engine(bundle, backend="openvino", options=ONE_THREAD).backend == "openvino"
    assert read_sidecar(plan.files).parity.mask_agreement == 1.0


def as_bf16(plan: Compiled) -> Compiled:
    """The files of a plan in fp32 once more, as those of one in bf16."""
    files = PlanFiles(plan.files.bundle, "openvino", "bf16")
    for of_fp32, of_bf16 in (
        (plan.files.segmenter, files.segmenter),
        (plan.files.classifiers, files.classifiers),
        (plan.files.check_tiles, files.check_tiles),
    ):
        shutil.copy(of_fp32, of_bf16)
    sidecar = plan.sidecar.model_copy(update={"precision": "bf16"})
    write_sidecar(files, sidecar)
    return Compiled(files, sidecar)


@pytest.mark.parametrize("backend", ["auto", "openvino"])
def test_a_stale_plan_in_bf16_does_not_hide_one_in_fp32(bundle, compiled, backend):
    faster = as_bf16(compiled("fp32"))
    write_sidecar(faster.files, faster.sidecar.model_copy(update={"library_version": "2020.1"}))
    assert candidate("openvino", bundle, ONE_THREAD).usable
    with capture_logs() as logs:
        engine = open_engine(bundle, backend=backend, options=ONE_THREAD)
    engine.close()
    assert engine.backend == "openvino"
    (line,) = [line for line in logs if line["event"] == "plan_not_used"]
    assert (line["level"], line["plan"], line["backend"]) == (
        "warning",
        "openvino-bf16",
        "openvino",
    )
    assert "compiled by version 2020.1" in line["reason"]
    assert unused_plans(bundle, backend, engine.backend, ONE_THREAD) == (faster.files,)


def test_a_stale_plan_is_not_replaced_if_its_precision_is_named(bundle, compiled):
    faster = as_bf16(compiled("fp32"))
    write_sidecar(faster.files, faster.sidecar.model_copy(update={"library_version": "2020.1"}))
    with pytest.raises(PlanError, match=r"compiled by version 2020\.1"):
        open_engine(bundle, backend="openvino", options=replace(ONE_THREAD, precision="bf16"))


@pytest.fixture
def bf16_fails(bundle, compiled, monkeypatch):
    """A function that makes a plan in bf16 that can be loaded and not opened, for a reason."""
    monkeypatch.setattr("her2d.inference.openvino_engine._capabilities", lambda _: ["FP32", "BF16"])
    as_bf16(compiled("fp32"))

    def with_reason(error):
        def opened(files, sidecar, options):
            if files.precision == "bf16":
                raise error
            return engine_of(files, sidecar, options)

        monkeypatch.setattr("her2d.inference.plan_engine.engine_of", opened)

    return with_reason


def test_where_the_fastest_plan_cannot_be_opened_the_next_one_is(bundle, bf16_fails):
    bf16_fails(EngineError("OpenVINO cannot load it."))
    with capture_logs() as logs:
        engine = open_engine(bundle, backend="openvino", options=ONE_THREAD)
    engine.close()
    assert engine.backend == "openvino"
    (line,) = [line for line in logs if line["event"] == "plan_not_used"]
    assert (line["plan"], line["reason"]) == ("openvino-bf16", "OpenVINO cannot load it.")


def test_where_the_device_is_lost_no_other_plan_is_tried(bundle, bf16_fails):
    bf16_fails(DeviceLostError("The device is lost."))
    with pytest.raises(DeviceLostError, match="The device is lost"):
        open_engine(bundle, backend="openvino", options=ONE_THREAD)


def unwanted(*_, **__):
    raise AssertionError("the plan is compared with fp32")


def test_where_it_may_not_compile_code_auto_passes_it_over_and_says_why(bundle, compiled):
    """As in systemd's sandbox: a restriction of the process, PR_SET_MDWE, that it cannot undo."""
    compiled("fp32")
    script = f"""
import ctypes, sys
if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) != 0:
    sys.exit("no PR_SET_MDWE")
from her2d.bundle.loading import load_bundle
from her2d.inference.backends import candidate
from her2d.inference.engine import EngineError
from her2d.inference.options import EngineOptions
from her2d.inference.selection import open_engine
bundle, options = load_bundle({str(bundle.directory)!r}), EngineOptions(threads=1)
print(open_engine(bundle, backend="auto", options=options).backend)
print(candidate("openvino", bundle, options).reason)
try:
    open_engine(bundle, backend="openvino", options=options)
except EngineError as error:
    print(error)
"""
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    if "no PR_SET_MDWE" in found.stderr:
        pytest.skip("this kernel cannot keep a process from compiling code (Linux 6.3)")
    assert found.returncode == 0, found.stderr
    backend, *reasons = found.stdout.splitlines()[-3:]
    assert backend == "onnxruntime"
    assert all("sudo make install-openvino" in reason for reason in reasons)


def test_an_altered_plan_is_refused(bundle, compiled):
    plan = compiled("fp32")
    plan.files.segmenter.write_bytes(plan.files.segmenter.read_bytes() + b"\0")
    with pytest.raises(PlanError, match="is not the file that its sidecar describes"):
        open_engine(bundle, backend="openvino", options=ONE_THREAD)


def test_a_batch_of_the_wrong_shape_is_an_engine_error(compiled):
    plan = compiled("fp32")
    engine = engine_of(plan.files, plan.sidecar, ONE_THREAD)
    with pytest.raises(EngineError, match="OpenVINO failed on a batch of 1 tiles"):
        engine.segment(np.zeros((1, 8, 8, 3), np.uint8))
    assert engine.segment(TILES).tumor_pixels.shape == (2,)


def test_it_opens_no_connection_and_writes_nothing_at_home(compiled, tmp_path):
    """Its package brings a client that reports the import to Google Analytics."""
    plan = compiled("fp32")
    home = tmp_path / "home"
    home.mkdir()
    script = f"""
import sys
from pathlib import Path
sys.addaudithook(lambda name, _: print(name) if name.startswith(("socket.", "os.fork")) else None)
import numpy as np
from her2d.bundle.loading import load_bundle
from her2d.inference.selection import open_engine
from her2d.inference.ways import NetworkWays, PlanWays, Way, candidate_ways
from her2d.system.cpus import usable_cpus
engine = open_engine(load_bundle(Path({str(plan.files.bundle.directory)!r})), backend="openvino")
engine.segment(np.zeros((1, 512, 512, 3), np.uint8))
"""
    environment = {name: value for name, value in os.environ.items() if name != "CI"}  # opts out
    environment["HOME"] = str(home)
    command = [sys.executable, "-c", script]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout == ""
    assert list(home.iterdir()) == []


@pytest.mark.skipif(not has_bf16(), reason="this processor has no instructions for bf16")
def test_in_bf16_it_differs_within_the_bundles_tolerance_and_is_recorded_as_bf16(bundle, compiled):
    assert fastest_precision("openvino") == "bf16"
    parity = compiled("bf16").sidecar.parity
    assert parity is not None
    assert parity.refusal(bundle.manifest.tolerance) is None
    assert open_engine(bundle, backend="auto", options=ONE_THREAD).backend == "openvino-bf16"


def test_bf16_is_refused_on_a_processor_without_it():
    assert "no instructions for bf16" in (precision_problem(processor("FP32"), "bf16") or "")
    assert precision_problem(processor("FP32", "BF16"), "bf16") is None
    assert precision_problem(processor("FP32"), "fp32") is None


def test_a_processor_without_bf16_gets_no_plan_unless_it_is_asked_for(monkeypatch):
    monkeypatch.setattr("her2d.inference.compiler.compile.library_of", lambda _: processor("FP32"))
    with pytest.raises(EngineError, match="not faster than ONNX Runtime"):
        fastest_precision("openvino")


def test_fp16_is_refused():
    order = CompileOrder("openvino", "fp16", Profile(best=1, most=1), Profile(best=1, most=1))
    with pytest.raises(EngineError, match="supports fp32, bf16 and int8, not fp16"):
        platform_for(order)


def opened_separately(bundle, precision):
    order = CompileOrder("openvino", precision, Profile(best=4, most=4), Profile(best=4, most=4))
    plan = compile_bundle(bundle, order, TilesToTry(calibration=TILES, check=TILES))
    return engine_of(plan.files, plan.sidecar, EngineOptions(threads=1, separate_folds=True))


@pytest.mark.slow
def test_in_fp32_the_shipped_sub_classifiers_run_one_by_one(tmp_path):
    shutil.copytree(PACKAGE_DATA / "her2net-demo", tmp_path / "shipped")
    engine = opened_separately(load_bundle(tmp_path / "shipped"), "fp32")
    assert engine.separate_folds_problem(1) is None
    batch = engine.upload(list(TILES))
    kept = [batch.keep(index) for index in range(len(TILES))]
    one_by_one = np.stack([engine.classify_fold(kept, fold) for fold in range(5)], axis=1)
    assert one_by_one.tobytes() == engine.classify(TILES).tobytes()


def test_sub_classifiers_that_it_computes_otherwise_one_at_a_time_are_run_at_once(
    color_bundle, tmp_path
):
    """Of one classifier it multiplies the last two factors first; of five it cannot."""
    bundle = write_separable_bundle(color_bundle, tmp_path / "separable")
    engine = opened_separately(bundle, "fp32")
    assert "does not compute exactly the same" in engine.separate_folds_problem(1)
    assert engine.classify(TILES)[1] == pytest.approx(SCALES)


def test_in_bf16_sub_classifiers_are_run_at_once(color_bundle, tmp_path):
    if not has_bf16():
        pytest.skip("this processor has no bf16")
    engine = opened_separately(write_separable_bundle(color_bundle, tmp_path / "separable"), "bf16")
    assert "In bf16, OpenVINO does not compute" in engine.separate_folds_problem(1)
