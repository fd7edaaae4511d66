"""her2d and what it is built on tell nobody of the machine they run on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "systemd"


@pytest.mark.parametrize("environment", [{}, {"ORT_DISABLE_TELEMETRY": "0"}])
def test_onnx_runtime_identifies_the_machine_to_nobody(tmp_path, environment):
    # Its telemetry begins with a device's id below HOME; where that is closed, with a complaint.
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
def test_the_units_say_so_too(unit):
    assert "\nEnvironment=ORT_DISABLE_TELEMETRY=1\n" in (UNITS / unit).read_text()
