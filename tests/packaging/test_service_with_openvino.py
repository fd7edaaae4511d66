"""OpenVINO in the sandbox of the installed unit: Debian with systemd as PID 1, in a container."""

import json
from pathlib import Path

import pytest
from debian_machine import Machine, find_libraries, needs_container

pytestmark = [pytest.mark.slow, needs_container]

SHOWN = "/opt/openvino"  # which no sandbox hides, as it does /tmp and /home
BUNDLE = "/var/lib/her2d/engines/her2net-demo"
CONFIG = "/etc/her2d/config.toml"


@pytest.fixture
def openvino_libraries() -> Path:
    """The folder in which this Python has OpenVINO."""
    openvino = pytest.importorskip("openvino", reason="openvino is missing: her2d[openvino]")
    return Path(openvino.__file__).parents[1]


def backends_of_results(machine: Machine) -> list[str]:
    listed = json.loads(machine.run("her2d", "results", "--json", user="her2d"))
    return [result["backend"] for result in listed]


def test_the_daemon_runs_openvino_only_with_the_drop_in_and_says_so_before(
    installed, boot, clone, scan, another_scan, openvino_libraries
):
    machine = boot(installed, clone, f"{openvino_libraries}:{SHOWN}")
    find_libraries(machine, SHOWN)
    machine.run("sed", "-i", "-E", "s/^(# )?settle_s = .*/settle_s = 1/", CONFIG)
    compiling = ("her2d", "compile", BUNDLE, "--backend", "openvino", "--tiles", "8")
    machine.run(*compiling, user="her2d")

    machine.run("systemctl", "start", "her2d")
    machine.put(scan, "/srv/her2d/inbox/a.tif")
    machine.wait_for_event("slide_finished")
    assert backends_of_results(machine) == ["onnxruntime"]
    assert "install the drop-in openvino.conf" in machine.journal()
    doctor = machine.try_run("her2d", "doctor", "--json", user="her2d").stdout
    assert "her2d.service may not run code that it compiles" in doctor

    machine.run("make", "-s", "-C", clone, "install-openvino")
    machine.run("systemctl", "restart", "her2d")
    machine.put(another_scan, "/srv/her2d/inbox/b.tif")
    machine.wait_for_event("slide_finished", times=2)
    assert len(backends_of_results(machine)) == 2
    (backend,) = set(backends_of_results(machine)) - {"onnxruntime"}
    assert backend.startswith("openvino-")
    doctor = machine.try_run("her2d", "doctor", "--json", user="her2d").stdout
    assert "may not run code" not in doctor
