"""A real cluster of Ray on this machine: a head without CPUs, and nodes that can be killed."""

import json
import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any, ClassVar

from daemon_site import Site

from her2d.bundle.loading import Bundle

_STORE_BYTES = 80 * 2**20  # the least that Ray takes


# A killed node refuses connections, which is noticed in two seconds, not in fifteen; one that a
# busy machine keeps waiting answers later. Ray gives its workers way to everything
# else, and on a busy machine they would not start in the time that a test waits.
_SOON = {
    "worker_niceness": 0,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 60_000,
    "health_check_failure_threshold": 3,
    "health_check_initial_delay_ms": 500,
}


def free_port() -> int:
    """Return a port that no program listens on."""
    with socket.socket() as free:
        free.bind(("", 0))
        return int(free.getsockname()[1])


class RayNodes:
    """A cluster of this machine's processes."""

    def __init__(self, port: int = 0, **head: Any) -> None:
        """Start the head on a port, or on any free one; `head` are further settings of Ray's."""
        from ray.cluster_utils import Cluster

        self._cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 0,
                "gcs_server_port": port,
                "object_store_memory": _STORE_BYTES,
                "include_dashboard": False,
                "_system_config": _SOON | head.pop("system", {}),
                **head,
            },
        )
        self._address = str(self._cluster.address)  # which Ray forgets when the cluster has ended
        self.nodes: list[object] = []

    @property
    def address(self) -> str:
        return self._address

    def add(self, number: int = 1, **node: Any) -> None:
        for _ in range(number):
            self.nodes.append(
                self._cluster.add_node(num_cpus=1, object_store_memory=_STORE_BYTES, **node)
            )

    def kill(self, number: int) -> None:
        """Kill every process of a node, as a power cut does."""
        self._cluster.remove_node(self.nodes.pop(number), allow_graceful=False)

    def kill_head(self) -> None:
        """Kill what knows all nodes, as the end of the head's machine does."""
        head = self._cluster.head_node
        for started in head.all_processes["gcs_server"]:
            started.process.kill()

    def again(self) -> "RayNodes":
        """Start another cluster at the same address, after this one has ended."""
        return RayNodes(int(self.address.rpartition(":")[2]))

    def end(self) -> None:
        """End all processes; nothing happens if they were ended before."""
        if self._cluster.head_node is None:
            return
        session = self._cluster.head_node.get_session_dir_path()
        self._cluster.shutdown()
        shutil.rmtree(session, ignore_errors=True)


class ClientRayNodes(RayNodes):
    """A cluster whose head has a port for clients, as in the documentation."""

    def __init__(self, client_port: int = 0) -> None:
        self._client_port = client_port or free_port()
        super().__init__(ray_client_server_port=self._client_port)

    @property
    def address(self) -> str:
        return f"ray://127.0.0.1:{self._client_port}"

    def again(self) -> "ClientRayNodes":
        return ClientRayNodes(self._client_port)


class ScalingRayNodes(RayNodes):
    """A cluster whose nodes are started and ended by Ray's own autoscaler, at most one at once."""

    MOST = 1
    ENVIRONMENT: ClassVar = {
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_FAKE_CLUSTER": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
    }

    def __init__(self, folder: Path) -> None:
        from ray._private.services import get_node_ip_address

        port = free_port()
        config = folder / "autoscaler.json"
        node = {"resources": {"CPU": 1, "object_store_memory": _STORE_BYTES}, "node_config": {}}
        lists = ("initialization", "setup", "head_setup", "worker_setup")
        starts = ("head_start_ray_commands", "worker_start_ray_commands")
        config.write_text(
            json.dumps(
                {
                    "cluster_name": "her2d",
                    "max_workers": self.MOST,
                    "idle_timeout_minutes": 0.05,
                    "upscaling_speed": 1.0,
                    "provider": {
                        "type": "fake_multinode",
                        "disable_node_updaters": True,
                        "use_node_id_as_ip": True,
                        "disable_launch_config_check": True,
                        "gcs_address": f"{get_node_ip_address()}:{port}",
                    },
                    "auth": {},
                    "head_node_type": "ray.head.default",
                    "available_node_types": {
                        "ray.head.default": {
                            "resources": {},
                            "node_config": {},
                            "max_workers": 0,
                        },
                        "worker": {**node, "min_workers": 0, "max_workers": self.MOST},
                    },
                    "file_mounts": {},
                    "cluster_synced_files": [],
                    "file_mounts_sync_continuously": False,
                    "rsync_exclude": [],
                    **{f"{name}_commands": [] for name in lists},
                    **{name: [] for name in starts},
                }
            )
        )
        super().__init__(port, autoscaling_config=str(config))

    def end(self) -> None:
        """End the nodes as well, which are children of the autoscaler and not of this process."""
        session = Path(self._cluster.head_node.get_session_dir_path()).name
        super().end()
        found = subprocess.run(
            ["pgrep", "-f", session],
            capture_output=True,
            text=True,
            check=False,
        )
        for pid in map(int, found.stdout.split()):
            if pid != os.getpid():
                os.kill(pid, signal.SIGKILL)


def cluster_site(folder: Path, bundle: Bundle, address: str, lacking: Path | None = None) -> Site:
    """Create a site whose slides a cluster scores.

    Args:
        lacking: a folder that no node has.
    """
    site = Site.made(folder, bundle)
    paths = "" if lacking is None else f'paths = {{ "{lacking}" = "/nowhere" }}\n'
    site.config.write_text(f"{site.config.read_text()}[cluster]\n{paths}")
    site.set("cluster", address=address, actor_cpus=1, most_slides=8, least_engines=8)
    site.set("inference", backend="onnxruntime")
    return site
