"""her2d and its dependencies send no telemetry."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "systemd"


@pytest.mark.parametrize("environment", [{}, {"ORT_DISABLE_TELEMETRY": "0"}])
def test_onnx_runtime_creates_no_device_id(tmp_path, environment):
    # Its telemetry first writes a device id below HOME, or warns if it cannot.
    command = "import her2d, onnxruntime; onnxruntime.InferenceSession"
    inherited = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    found = subprocess.run(
        [sys.executable, "-c", command],
        env=inherited | {"HOME": str(tmp_path)} | environment,
        capture_output=True,
        check=True,
    )
    assert list(tmp_path.rglob("*")) == []
    assert found.stderr == b""


@pytest.mark.parametrize("unit", ["her2d.service", "her2d-care.service"])
def test_the_units_disable_telemetry(unit):
    assert "\nEnvironment=ORT_DISABLE_TELEMETRY=1\n" in (UNITS / unit).read_text()
