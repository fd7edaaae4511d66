"""A cluster with TLS and a token, set up by the commands of the guide."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon_site import PATIENCE_S, Site
from ray_nodes import cluster_site, free_port
from waiting import wait_until

from her2d.queue.job import JobState
from her2d.system.connections import connection_problem

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed"),
]

for module in ("ray", "grpc"):
    pytest.importorskip(module, reason=f"{module} is missing: pip install 'her2d[cluster]'")

GUIDE = (Path(__file__).parents[2] / "docs/how-to/cluster-security.md").read_text()
AUTHORITY, MACHINE, ENVIRONMENT = re.findall(r"^```sh\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef0123456789abcdef"}
BRIEFLY = {f"RAY_CLIENT_{name}_CONNECTION_TIMEOUT_S": "2" for name in ("INITIAL", "MAX")}


@pytest.fixture(scope="module")
def certified(tmp_path_factory) -> dict[str, str]:
    """The environment of a machine with a certificate."""
    from ray._private.services import get_node_ip_address

    folder = tmp_path_factory.mktemp("tls")
    commands = AUTHORITY + MACHINE.replace("10.0.0.7", get_node_ip_address())
    subprocess.run(["sh", "-ec", commands], cwd=folder, check=True, capture_output=True)
    lines = ENVIRONMENT.replace("/etc/her2d/tls", str(folder)).split()
    return dict(line.split("=", 1) for line in lines)


@pytest.fixture(scope="module")
def secured(certified, tmp_path_factory) -> Iterator[str]:
    """The address of a head that is a node as well."""
    port, client_port = free_port(), free_port()
    # A socket's path has 107 characters at most.
    folder = tempfile.mkdtemp(prefix="r", dir="/tmp")
    command = (
        f"{sys.executable} -m ray.scripts.scripts start --head --block --port {port}"
        f" --ray-client-server-port {client_port} --num-cpus 1 --include-dashboard false"
        f" --object-store-memory 100000000 --temp-dir {folder}"
    )
    log = tmp_path_factory.mktemp("head") / "head.log"
    with log.open("wb") as output:
        head = subprocess.Popen(
            command.split(),
            env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0", **certified, **TOKEN},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    wait_until(lambda: connection_problem("127.0.0.1", client_port) is None, PATIENCE_S)
    yield f"ray://127.0.0.1:{client_port}"
    head.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        head.wait(60)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(head.pid, signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def site(secured, tmp_path, color_bundle) -> Site:
    return cluster_site(tmp_path / "site", color_bundle, secured)


def test_slides_are_scored_with_certificate_and_token(site, certified, write_slide):
    with site.daemon(**certified, **TOKEN):
        site.wait_until(lambda: site.events()["cluster_node_usable"] == 1)
        write_slide(["Sw"], "a.tif", folder=site.inbox)
        site.wait_for(JobState.DONE)


@pytest.mark.parametrize("lacking", ["certificate", "token"])
def test_without_either_the_daemon_says_what_the_head_may_ask_for(
    site, secured, certified, lacking
):
    given = TOKEN if lacking == "certificate" else certified
    with site.daemon(**given, **BRIEFLY):
        site.wait_until(lambda: site.events()["cluster_unavailable"] > 0)
    (line,) = [line for line in site.lines() if line["event"] == "cluster_unavailable"]
    assert f"The cluster {secured} cannot be reached: what listens there" in line["reason"]
    assert "lacks" in line["reason"]
