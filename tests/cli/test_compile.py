"""`her2d compile` and `her2d doctor`, with the shipped bundle and real builders."""

import json
import shutil
from pathlib import Path

import pytest

from her2d.system.cpus import processor_kind

SHIPPED = Path(__file__).parents[2] / "engines" / "her2net-demo"


@pytest.fixture
def demo(tmp_path):
    return Path(shutil.copytree(SHIPPED, tmp_path / "demo"))


def test_the_shipped_bundle_compiles_for_rtx_and_the_sidecar_describes_the_plan(laboratory, demo):
    arguments = ("--backend", "tensorrt-rtx", "--precision", "fp16", "--tiles", "2")
    sidecar = laboratory.json("compile", demo, *arguments)
    assert (sidecar["backend"], sidecar["precision"]) == ("tensorrt_rtx", "fp16")
    assert sidecar["segmenter"]["profile"] == {"smallest": 1, "best": 8, "most": 8}
    assert json.loads((demo / "tensorrt_rtx-fp16.plan.json").read_text()) == sidecar
    assert (demo / "tensorrt_rtx-fp16.classifiers.plan").stat().st_size > 1_000_000


@pytest.mark.slow
def test_the_shipped_bundle_in_int8_passes_its_own_gate_on_the_cpu(laboratory, demo):
    arguments = ("--backend", "onnxruntime", "--precision", "int8", "--tiles", "4")
    parity = laboratory.json("compile", demo, *arguments)["parity"]
    assert (parity["tiles"], parity["verified_on"]) == (2, processor_kind())
    assert parity["mask_agreement"] >= 0.99


@pytest.mark.slow
def test_int8_that_differs_by_more_than_the_manifest_tolerates_is_refused(her2d, demo):
    manifest = demo / "manifest.toml"
    text = manifest.read_text()
    assert "max_dp = 0.05" in text
    manifest.write_text(text.replace("max_dp = 0.05", "max_dp = 0.0"))
    arguments = ("--backend", "onnxruntime", "--precision", "int8", "--tiles", "4")
    code, _, err = her2d("compile", demo, *arguments)
    assert code == 1
    assert "onnxruntime-int8 is refused. It differs too much from ONNX Runtime in fp32" in err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--backend", "onnxruntime", "--precision", "fp16"), "runs fp16 without a compiled plan"),
        (("--slide", "nowhere.tif", "--backend", "tensorrt-rtx"), "nowhere.tif"),
    ],
)
def test_a_bundle_that_cannot_be_compiled_is_reported_in_one_clear_line(
    her2d, demo, arguments, sentence
):
    code, _, err = her2d("compile", demo, *arguments)
    assert code == 1
    assert sentence in err
    assert err.count("\n") == 1


def test_doctor_lists_every_back_end_with_its_reason(laboratory):
    found = laboratory.json("doctor")["backends"]
    assert [item["name"] for item in found] == [
        "tensorrt",
        "tensorrt_rtx",
        "torch",
        "openvino",
        "onnxruntime",
    ]
    assert found[-1] == {"name": "onnxruntime", "usable": True, "reason": "CPU"}
    assert all(item["reason"] for item in found)
    assert "Inference back ends" in laboratory.run("doctor").stdout
