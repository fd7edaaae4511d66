"""`compile_bundle`: real plans, built without a GPU."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from built_once import built_once, run_folder

from her2d.bundle.loading import load_bundle
from her2d.inference.compiler.compile import CompileOrder, TilesToTry, compile_bundle
from her2d.inference.engine import EngineError
from her2d.inference.options import EngineOptions
from her2d.inference.plan_engine import open_plan, usable_plan
from her2d.inference.plans import PlanError, PlanFiles, Profile, Sidecar, read_sidecar
from her2d.inference.selection import open_engine
from her2d.system.cpus import processor_kind

pytestmark = pytest.mark.slow

SEGMENTER, CLASSIFIERS = Profile(best=4, most=8), Profile(best=2, most=2)


@pytest.fixture(autouse=True)
def measured_briefly(monkeypatch):
    """What is measured when a plan is compiled decides only how fast it runs."""
    monkeypatch.setattr("her2d.inference.compiler.measure_ways._LEAST_S", 1e-6)
    monkeypatch.setattr("her2d.inference.compiler.measure_ways._ENOUGH_S", 0.0)


@pytest.fixture
def bundle(slim_bundle, tmp_path):
    shutil.copytree(slim_bundle.directory, tmp_path / "bundle")
    return load_bundle(tmp_path / "bundle")


@pytest.fixture
def to_try(tissue):
    tiles = tissue(5)
    return TilesToTry(calibration=tiles[:3], check=tiles[3:])


@pytest.fixture
def in_int8(slim_bundle, to_try, tmp_path, tmp_path_factory, measured_briefly) -> PlanFiles:
    """A copy of the bundle with loose tolerances, compiled for ONNX Runtime in int8."""

    def build(folder: Path) -> None:
        shutil.copytree(slim_bundle.directory, folder, dirs_exist_ok=True)
        compile_bundle(loosened(load_bundle(folder)), order("onnxruntime", "int8"), to_try)

    built = built_once(run_folder(tmp_path_factory) / "slim-in-int8", build)
    shutil.copytree(built, tmp_path / "in-int8")
    return PlanFiles(load_bundle(tmp_path / "in-int8"), "onnxruntime", "int8")


def order(backend, precision) -> CompileOrder:
    return CompileOrder(backend, precision, SEGMENTER, CLASSIFIERS)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8"])
def test_every_precision_compiles_for_rtx_without_a_gpu(bundle, to_try, precision):
    phases: list[str] = []
    compiled = compile_bundle(
        bundle,
        order("tensorrt_rtx", precision),
        to_try,
        progress=lambda phase, *_: phases.append(phase),
    )
    sidecar = read_sidecar(compiled.files)
    assert sidecar == compiled.sidecar
    assert (sidecar.backend, sidecar.precision) == ("tensorrt_rtx", precision)
    assert sidecar.segmenter.profile == SEGMENTER
    assert sidecar.classifiers.source_sha256 == bundle.manifest.parts.classifiers.sha256
    assert compiled.files.segmenter.stat().st_size > 100_000
    assert len(set(phases)) > 2
    load_bundle(bundle.directory)


def test_batches_that_the_builder_does_not_take_are_refused(bundle, to_try):
    contradictory = CompileOrder("tensorrt_rtx", "fp32", Profile(best=4, most=2), CLASSIFIERS)
    with pytest.raises(EngineError, match="best=4 most=2"):
        compile_bundle(bundle, contradictory, to_try)


@pytest.mark.usefixtures("without_gpu")
def test_a_plan_built_without_a_gpu_is_unverified(bundle, to_try):
    sidecar = compile_bundle(bundle, order("tensorrt_rtx", "fp32"), to_try).sidecar
    assert (sidecar.gpu, sidecar.compute_capability) == ("none", "none")
    assert (sidecar.parity, sidecar.verified_on) == (None, "unverified")


def test_tensorrt_is_refused_where_it_is_not_installed(bundle, to_try):
    pytest.importorskip("tensorrt_rtx")
    try:
        import tensorrt  # noqa: F401
    except ImportError:
        with pytest.raises(EngineError, match=r"tensorrt is not installed.*her2d\[tensorrt\]"):
            compile_bundle(bundle, order("tensorrt", "fp16"), to_try)
    else:
        pytest.skip("tensorrt is installed")


def test_int8_on_the_cpu_is_checked_at_once_and_used_if_requested_by_name(in_int8, to_try):
    sidecar = read_sidecar(in_int8)
    assert sidecar.verified_on == processor_kind()
    assert sidecar.parity is not None
    assert 0 < sidecar.parity.max_dp < 0.2
    options = EngineOptions(precision="int8", threads=1)
    engine = open_engine(in_int8.bundle, backend="auto", options=options)
    assert engine.backend == "onnxruntime-int8"
    assert engine.classify(to_try.check).shape == (2, 5)
    engine.close()


def test_int8_that_was_not_compiled_is_refused_with_the_command(bundle):
    with pytest.raises(PlanError, match=r"--backend onnxruntime --precision int8"):
        open_engine(bundle, backend="onnxruntime", options=EngineOptions(precision="int8"))


def test_int8_is_never_used_unless_requested(in_int8):
    engine = open_engine(in_int8.bundle, backend="onnxruntime", threads=1)
    assert engine.backend == "onnxruntime"
    engine.close()


def test_a_plan_beyond_the_tolerance_is_refused_and_nothing_is_left(bundle, to_try):
    strict = with_tolerance(bundle, "max_dp = 0.0")
    with pytest.raises(
        PlanError, match=r"is refused\. It differs too much from ONNX Runtime in fp32"
    ):
        compile_bundle(strict, order("onnxruntime", "int8"), to_try)
    left = {path.name for path in bundle.directory.iterdir()}
    assert left == {"segmenter.onnx", "classifiers.onnx", "integrator.skops", "manifest.toml"}


def test_an_unverified_plan_is_checked_before_it_is_used_and_the_check_is_saved(in_int8):
    unverify(in_int8)
    open_plan(in_int8.bundle, "onnxruntime", EngineOptions(precision="int8", threads=1)).close()
    assert read_sidecar(in_int8).verified_on == processor_kind()


def test_an_unverified_plan_that_fails_its_check_is_never_used(in_int8):
    unverify(in_int8)
    strict = with_tolerance(in_int8.bundle, "max_dp = 0.0")
    with pytest.raises(PlanError, match=r"differs too much"):
        open_plan(strict, "onnxruntime", EngineOptions(precision="int8", threads=1))


def test_an_unverified_plan_without_its_check_tiles_is_never_used(in_int8):
    unverify(in_int8)
    np.savez(in_int8.check_tiles, other=np.zeros(1))
    with pytest.raises(PlanError, match=r"plan\.npz cannot be read"):
        open_plan(in_int8.bundle, "onnxruntime", EngineOptions(precision="int8", threads=1))


def test_the_fastest_compiled_plan_is_used_if_no_precision_is_named(bundle, to_try):
    for precision in ("fp32", "bf16"):
        compile_bundle(bundle, order("tensorrt_rtx", precision), to_try)
    assert usable_plan(bundle, "tensorrt_rtx", None).files.precision == "bf16"
    assert usable_plan(bundle, "tensorrt_rtx", "fp32").files.precision == "fp32"


def unverify(files: PlanFiles) -> None:
    sidecar = read_sidecar(files)
    text = Sidecar.model_validate(sidecar.model_dump() | {"parity": None}).model_dump_json()
    files.sidecar.write_text(text)


def loosened(bundle):
    """Loosen the tolerance, because quantisation changes random weights' outputs more."""
    return with_tolerance(
        bundle, "max_dp = 0.5\nmask_agreement = 0.5\nchanged_tiles = 1.0\nchange_in_p = 100.0"
    )


def with_tolerance(bundle, lines: str):
    manifest = bundle.directory / "manifest.toml"
    text = manifest.read_text().split("[tolerance]")
    after = text[1].split("\n\n", 1)[1] if len(text) == 2 else ""
    manifest.write_text(f"{text[0]}[tolerance]\n{lines}\n\n{after}")
    return load_bundle(bundle.directory)
