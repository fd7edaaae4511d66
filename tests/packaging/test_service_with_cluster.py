"""The sandbox of the installed unit against a real head of Ray, in a container with systemd."""

import sys
from pathlib import Path

import pytest
from debian_machine import Machine, needs_container

pytestmark = [pytest.mark.slow, needs_container]

SHOWN = "/opt/ray"  # which no sandbox hides, as it does /tmp and /home
START_S = 300  # of a head, a client's server there, and an actor
CONFIG = "/etc/her2d/config.toml"
SIMULATED = ("her2d", "simulate", "scanner", "/srv/her2d/inbox", "--slides", "1", "--pace", "50")
# A head with a CPU is a node as well. Its user may read the inbox and the bundle.
HEAD = (
    "systemd-run --unit=ray-head --uid=her2d --setenv=RAY_USAGE_STATS_ENABLED=0 --setenv=HOME=/tmp"
    " --setenv=PATH=/opt/her2d/bin:/usr/bin:/bin --property=Type=exec"
    " --property=TimeoutStopSec=5"  # else its processes hold up the end of the machine
    " /opt/her2d/bin/python -m ray.scripts.scripts start --head --block"
    " --node-ip-address 127.0.0.1 --port 6379 --ray-client-server-port 10001 --num-cpus 1"
    " --object-store-memory 100000000 --include-dashboard false"
)


@pytest.fixture
def ray_libraries() -> Path:
    """The folder in which this Python has Ray and what it needs."""
    for module in ("ray", "grpc"):
        pytest.importorskip(module, reason=f"{module} is missing: pip install 'her2d[cluster]'")
    import ray

    return Path(ray.__file__).parents[1]


def on_cluster(machine: Machine, address: str) -> None:
    """Let the installation find Ray, start a head, and name it in the settings."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    machine.shell(f"echo {SHOWN} > /opt/her2d/lib/{version}/site-packages/ray.pth")
    machine.shell(HEAD)
    settings = {"address": f'"{address}"', "actor_cpus": "1", "backend": '"onnxruntime"'}
    for name, value in {**settings, "settle_s": "1"}.items():
        machine.run("sed", "-i", "-E", f"s|^(# )?{name} = .*|{name} = {value}|", CONFIG)


def events(machine: Machine, event: str) -> list[str]:
    return [line for line in machine.journal().splitlines() if event in line]


def test_the_unit_reaches_a_head_on_loopback_and_its_slides_are_scored_there(
    installed, boot, ray_libraries
):
    machine = boot(installed, f"{ray_libraries}:{SHOWN}")
    on_cluster(machine, "ray://127.0.0.1:10001")
    machine.run("systemctl", "start", "her2d")
    machine.wait_until(lambda: bool(events(machine, "cluster_node_usable")), START_S)
    machine.run(*SIMULATED, user="her2d")
    machine.wait_until(lambda: bool(events(machine, "slide_finished")))
    assert machine.show("her2d", "NRestarts") == "0"
    machine.run("systemctl", "stop", "her2d")
    assert machine.show("her2d", "Result") == "success"
    assert events(machine, "stop_forced") == []
