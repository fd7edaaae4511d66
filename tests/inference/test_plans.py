"""A plan is loaded only if it fits the bundle, the library and the device."""

import json
import shutil

import pytest

from her2d.bundle.loading import load_bundle, sha256_of
from her2d.bundle.manifest import Tolerance
from her2d.inference.plan_engine import usable_plan
from her2d.inference.plans import (
    CompiledPart,
    Parity,
    PlanError,
    PlanFiles,
    Platform,
    Profile,
    Sidecar,
    loadable_plan,
    write_sidecar,
)

HERE = Platform(
    library_version="11.4",
    gpu="NVIDIA RTX A6000",
    compute_capability="8.6",
    device="NVIDIA RTX A6000",
)
GOOD = Parity(
    tiles=8,
    mask_agreement=0.9999,
    max_dp=0.001,
    changed_tiles=0.0,
    change_in_p=0.01,
    verified_on=HERE.gpu,
)


@pytest.fixture
def plan(color_bundle, tmp_path):
    """A plan for `HERE` beside a bundle: (files, sidecar)."""
    shutil.copytree(color_bundle.directory, tmp_path / "bundle")
    bundle = load_bundle(tmp_path / "bundle")
    files = PlanFiles(bundle, "tensorrt", "fp16")
    parts = bundle.manifest.parts
    compiled = []
    for path, part in ((files.segmenter, parts.segmenter), (files.classifiers, parts.classifiers)):
        path.write_bytes(f"a plan of {part.file}".encode())
        compiled.append(
            CompiledPart(
                source_sha256=part.sha256,
                plan_sha256=sha256_of(path),
                profile=Profile(best=4, most=4),
            )
        )
    sidecar = Sidecar(
        backend="tensorrt",
        precision="fp16",
        library_version=HERE.library_version,
        gpu=HERE.gpu,
        compute_capability=HERE.compute_capability,
        segmenter=compiled[0],
        classifiers=compiled[1],
        parity=GOOD,
        compiled_at="2026-11-24T22:00:00+00:00",
        software_version="0",
    )
    write_sidecar(files, sidecar)
    return files, sidecar


def test_a_plan_for_this_bundle_library_and_device_is_loaded(plan):
    files, sidecar = plan
    assert loadable_plan(files, HERE) == sidecar


def test_a_stale_plan_is_refused_with_its_reason(plan):
    files, sidecar = plan
    other = sidecar.segmenter.model_copy(update={"source_sha256": "0" * 64})
    write_sidecar(files, sidecar.model_copy(update={"segmenter": other}))
    with pytest.raises(
        PlanError, match=r"not compiled from the bundle's segmenter\.onnx.*her2d compile "
    ):
        loadable_plan(files, HERE)


@pytest.mark.parametrize(
    ("platform", "reason"),
    [
        (Platform("10.9", HERE.gpu, "8.6", HERE.gpu), "by version 11.4, but 10.9 is installed"),
        (
            Platform("11.4", "NVIDIA L4", "8.9", "NVIDIA L4"),
            r"RTX A6000 \(8.6\), but this device is NVIDIA L4",
        ),
        (Platform("11.4", "none", "none", None), "but this device is none"),
    ],
)
def test_a_foreign_plan_is_refused_with_its_reason(plan, platform, reason):
    with pytest.raises(PlanError, match=reason):
        loadable_plan(plan[0], platform)


def test_a_plan_for_rtx_moves_to_another_card(plan):
    files, sidecar = plan
    rtx = PlanFiles(files.bundle, "tensorrt_rtx", "fp16")
    shutil.copy(files.segmenter, rtx.segmenter)
    shutil.copy(files.classifiers, rtx.classifiers)
    write_sidecar(rtx, sidecar.model_copy(update={"backend": "tensorrt_rtx"}))
    assert (
        loadable_plan(rtx, Platform("11.4", "NVIDIA RTX 5090", "12.0", "NVIDIA RTX 5090")).gpu
        == HERE.gpu
    )


def test_an_altered_plan_is_refused(plan):
    files, _ = plan
    files.classifiers.write_bytes(b"something else")
    with pytest.raises(
        PlanError, match=r"classifiers\.plan is not the file that its sidecar describes"
    ):
        loadable_plan(files, HERE)


def test_a_plan_with_a_missing_file_is_refused(plan):
    files, _ = plan
    files.segmenter.unlink()
    with pytest.raises(PlanError, match=r"segmenter\.plan cannot be read: No such file"):
        loadable_plan(files, HERE)


def test_without_a_compiled_plan_the_error_gives_the_command(color_bundle):
    with pytest.raises(PlanError, match="--backend tensorrt-rtx --precision bf16"):
        loadable_plan(PlanFiles(color_bundle, "tensorrt_rtx", "bf16"), HERE)


def in_precision(plan, precision: str, **changes: str) -> PlanFiles:
    """The fixture's plan once more, as one in another precision, with changes to its sidecar."""
    files, sidecar = plan
    other = PlanFiles(files.bundle, "tensorrt", precision)
    shutil.copy(files.segmenter, other.segmenter)
    shutil.copy(files.classifiers, other.classifiers)
    write_sidecar(other, sidecar.model_copy(update={"precision": precision} | changes))
    return other


def test_the_fastest_plan_that_may_be_loaded_is_used(plan, monkeypatch):
    monkeypatch.setattr("her2d.inference.plan_engine.platform_of", lambda _: HERE)
    files, sidecar = plan
    slowest, slower = (in_precision(plan, precision) for precision in ("fp32", "bf16"))
    assert usable_plan(files.bundle, "tensorrt", None).files == files
    write_sidecar(files, sidecar.model_copy(update={"gpu": "NVIDIA L4"}))
    assert usable_plan(files.bundle, "tensorrt", None).files == slower
    slower.sidecar.write_text("{}")
    assert usable_plan(files.bundle, "tensorrt", None).files == slowest
    assert usable_plan(files.bundle, "tensorrt", "fp32").files == slowest


def test_where_no_plan_may_be_loaded_the_reason_of_each_is_given(plan, monkeypatch):
    monkeypatch.setattr("her2d.inference.plan_engine.platform_of", lambda _: HERE)
    files, sidecar = plan
    write_sidecar(files, sidecar.model_copy(update={"gpu": "NVIDIA L4"}))
    in_precision(plan, "fp32", library_version="10.9")
    with pytest.raises(
        PlanError, match=r"tensorrt-fp16 is refused.*NVIDIA L4.*tensorrt-fp32 is refused.*10\.9"
    ):
        usable_plan(files.bundle, "tensorrt", None)


def test_a_named_precision_is_not_replaced_by_another(plan, monkeypatch):
    monkeypatch.setattr("her2d.inference.plan_engine.platform_of", lambda _: HERE)
    files, sidecar = plan
    in_precision(plan, "fp32")
    write_sidecar(files, sidecar.model_copy(update={"gpu": "NVIDIA L4"}))
    with pytest.raises(PlanError, match="NVIDIA L4"):
        usable_plan(files.bundle, "tensorrt", "fp16")


@pytest.mark.parametrize("text", ["", "{}", json.dumps({"backend": "magic"})])
def test_a_broken_sidecar_is_refused(plan, text):
    plan[0].sidecar.write_text(text)
    with pytest.raises(PlanError, match="is not a valid sidecar"):
        loadable_plan(plan[0], HERE)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"mask_agreement": 0.98}, "mask agreement is 0.98, the bundle allows at least 0.99"),
        ({"max_dp": 0.2}, r"max \|dp\| is 0.2, the bundle allows at most 0.05"),
        ({"changed_tiles": 0.25}, "changed tiles is 0.25, the bundle allows at most 0.02"),
        ({"change_in_p": 0.6}, "change in P .* is 0.6, the bundle allows at most 0.5"),
    ],
)
def test_each_figure_beyond_the_tolerance_is_a_refusal(change, sentence, plan):
    files, sidecar = plan
    bad = GOOD.model_copy(update=change)
    write_sidecar(files, sidecar.model_copy(update={"parity": bad}))
    with pytest.raises(PlanError, match=sentence):
        loadable_plan(files, HERE)


def test_figures_at_the_tolerance_pass():
    edge = Tolerance()
    at_the_edge = Parity(
        tiles=1,
        mask_agreement=edge.mask_agreement,
        max_dp=edge.max_dp,
        changed_tiles=edge.changed_tiles,
        change_in_p=edge.change_in_p,
        verified_on="cpu",
    )
    assert at_the_edge.refusal(edge) is None


def test_a_plan_without_a_comparison_is_unverified(plan):
    assert plan[1].model_copy(update={"parity": None}).verified_on == "unverified"
