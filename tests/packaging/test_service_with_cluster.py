"""The sandbox of the installed unit against a real head of Ray, in containers with systemd."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from debian_machine import Machine, connect, find_libraries, needs_container

pytestmark = [pytest.mark.slow, needs_container]

SHOWN = "/opt/ray"  # which no sandbox hides, as it does /tmp and /home
GUIDE = (Path(__file__).parents[2] / "docs/how-to/cluster.md").read_text()
# The addresses of the guide, so that what it says is used as it is.
HEAD_ADDRESS, BESIDE, PUBLIC = "10.0.0.7", "10.0.0.8", "192.0.2.7"
START_S = 300  # of a head, a client's server there, and an actor
CONFIG = "/etc/her2d/config.toml"
DROP_INS = "/etc/systemd/system/her2d.service.d"
SCAN = "/srv/her2d/inbox/a.tif"
# A head with a CPU is a node as well. Its user may read the inbox and the bundle.
HEAD = (
    "systemd-run --unit=ray-head --uid=her2d --setenv=RAY_USAGE_STATS_ENABLED=0 --setenv=HOME=/tmp"
    " --setenv=PATH=/opt/her2d/bin:/usr/bin:/bin --property=Type=exec"
    " --property=TimeoutStopSec=1"  # else its processes hold up the end of the machine
    " /opt/her2d/bin/python -m ray.scripts.scripts start --head --block"
    " --node-ip-address {address} --port 6379 --ray-client-server-port 10001 --num-cpus 1"
    " --object-store-memory 100000000 --include-dashboard false"
)


@pytest.fixture
def ray_libraries() -> Path:
    """The folder in which this Python has Ray and what it needs."""
    for module in ("ray", "grpc"):
        pytest.importorskip(module, reason=f"{module} is missing: pip install 'her2d[cluster]'")
    import ray

    return Path(ray.__file__).parents[1]


def start_head(machine: Machine, address: str) -> None:
    """Let an installation find Ray, and start a head that is a node as well."""
    find_libraries(machine, SHOWN)
    machine.shell(HEAD.format(address=address))


def use_cluster(machine: Machine, address: str) -> None:
    """Name the head in the settings."""
    settings = {"address": f'"{address}"', "actor_cpus": "1", "backend": '"onnxruntime"'}
    for name, value in {**settings, "settle_s": "1"}.items():
        machine.run("sed", "-i", "-E", f"s|^(# )?{name} = .*|{name} = {value}|", CONFIG)


def test_the_unit_reaches_a_head_on_loopback_and_its_slides_are_scored_there(
    installed, boot, scan, ray_libraries
):
    machine = boot(installed, f"{ray_libraries}:{SHOWN}")
    start_head(machine, "127.0.0.1")
    use_cluster(machine, "ray://127.0.0.1:10001")
    machine.run("systemctl", "start", "her2d")
    machine.wait_for_event("cluster_node_usable", patience_s=START_S)
    machine.put(scan, SCAN)
    machine.wait_for_event("slide_finished")
    assert machine.show("her2d", "NRestarts") == "0"
    machine.run("systemctl", "stop", "her2d")
    assert machine.show("her2d", "Result") == "success"
    assert machine.events("stop_forced") == []


# A datagram, since only that fails at once: Linux repeats a packet that should open a connection.
SEND = """
import pathlib, os, socket, sys
for cgroup in pathlib.Path("/sys/fs/cgroup").glob("**/her2d.service/cgroup.procs"):
    cgroup.write_text(str(os.getpid()))
try:
    socket.socket(type=socket.SOCK_DGRAM).sendto(b"", (sys.argv[1], 9))
except PermissionError:
    print("denied")
else:
    print("sent")
"""
# The container's service manager starts it, since a process from outside may not change cgroups.
AS_UNIT = ("systemd-run", "--wait", "--pipe", "--quiet")


def may_send(machine: Machine, address: str) -> bool:
    """Return whether a process in the cgroup of the daemon's unit may send to an address."""
    assert machine.show("her2d", "ActiveState") == "active"
    return machine.run(*AS_UNIT, "python3", "-c", SEND, address) == "sent\n"


def pair(
    boot: Callable[..., Machine], installed: list[Path], *shown: Path | str
) -> tuple[Machine, Machine]:
    """Boot the daemon's machine and one for the head, with a cable between them."""
    machine, other = boot(installed, *shown), boot(installed, *shown)
    theirs = (f"{HEAD_ADDRESS}/24", f"{BESIDE}/24", f"{PUBLIC}/24")
    connect(machine, other, ("10.0.0.1/24", "192.0.2.1/24"), theirs)
    send = ("python3", "-c", SEND, HEAD_ADDRESS)
    assert machine.run(*AS_UNIT, *send) == "sent\n"  # the cable works
    if machine.run(*AS_UNIT, "--property=IPAddressDeny=any", *send) == "sent\n":
        pytest.skip("systemd ignores IPAddressDeny= in a container here; it needs BPF for cgroups")
    return machine, other


def jobs(machine: Machine) -> list[str]:
    """The state of each job."""
    listed = machine.run("her2d", "queue", "ls", "--json", user="her2d")
    return [job["state"] for job in json.loads(listed)]


def test_the_unit_reaches_a_head_on_another_machine_only_with_the_documented_drop_in(
    installed, boot, scan, ray_libraries
):
    machine, other = pair(boot, installed, f"{ray_libraries}:{SHOWN}")
    start_head(other, HEAD_ADDRESS)
    find_libraries(machine, SHOWN)
    machine.shell(f"printf '127.0.0.1 localhost\n{HEAD_ADDRESS} head.example\n' > /etc/hosts")
    (address,) = re.findall(r'^address = "(.*)"', GUIDE, re.MULTILINE)
    use_cluster(machine, address)
    # Ray tries for 35 s otherwise.
    for name in ("INITIAL", "MAX"):
        line = f"RAY_CLIENT_{name}_CONNECTION_TIMEOUT_S=2"
        machine.shell(f"echo {line} >> /etc/her2d/secrets.env")
    machine.run("systemctl", "start", "her2d")
    machine.put(scan, SCAN)
    machine.wait_for_event("cluster_unavailable")
    (unavailable,) = machine.events("cluster_unavailable")
    assert (
        f"The cluster {address} cannot be reached: the sandbox of the systemd unit, or a firewall"
        " of this machine, forbids connections to head.example."
    ) in unavailable
    assert (
        f"her2d.service cannot connect to the cluster's head at head.example ({HEAD_ADDRESS})."
    ) in machine.try_run("her2d", "doctor", "--json", user="her2d").stdout
    assert not may_send(machine, HEAD_ADDRESS)
    machine.wait_until(lambda: jobs(machine) == ["queued"])

    (drop_in,) = re.findall(r"^```ini\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
    machine.shell(f"mkdir -p {DROP_INS}; echo '{drop_in}' > {DROP_INS}/override.conf")
    machine.shell("systemctl daemon-reload; systemctl restart her2d")
    machine.wait_for_event("cluster_node_usable", patience_s=START_S)
    machine.wait_for_event("slide_finished")
    assert jobs(machine) == []
    assert machine.events("slide_sent_to_node")  # the machines share no folder
    assert may_send(machine, HEAD_ADDRESS)
    assert not may_send(machine, BESIDE)


def test_the_drop_in_that_is_installed_opens_private_networks_and_no_others(installed, boot, clone):
    machine, _ = pair(boot, installed, clone)
    machine.run("make", "-s", "-C", clone, "install-cluster")
    machine.run("systemctl", "start", "her2d")
    assert may_send(machine, HEAD_ADDRESS)
    assert may_send(machine, BESIDE)
    assert not may_send(machine, PUBLIC)
