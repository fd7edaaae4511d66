"""A real cluster of Ray on this machine: a head without CPUs, and nodes that can be killed."""

import shutil
from pathlib import Path

from daemon_site import Site

from her2d.bundle.loading import Bundle

_STORE_BYTES = 80 * 2**20  # the least that Ray takes


class RayNodes:
    """A cluster of this machine's processes."""

    def __init__(self, port: int = 0) -> None:
        """Start the head on a port, or on any free one."""
        from ray.cluster_utils import Cluster

        self._cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 0,
                "gcs_server_port": port,
                "object_store_memory": _STORE_BYTES,
                "include_dashboard": False,
                # A killed node is noticed in two seconds, not in fifteen.
                "_system_config": {
                    "health_check_period_ms": 500,
                    "health_check_timeout_ms": 1000,
                    "health_check_failure_threshold": 3,
                    "health_check_initial_delay_ms": 500,
                },
            },
        )
        self.nodes: list[object] = []

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def add(self, number: int = 1) -> None:
        for _ in range(number):
            self.nodes.append(self._cluster.add_node(num_cpus=1, object_store_memory=_STORE_BYTES))

    def kill(self, number: int) -> None:
        """Kill every process of a node, as a power cut does."""
        self._cluster.remove_node(self.nodes.pop(number), allow_graceful=False)

    def kill_head(self) -> None:
        """Kill what knows all nodes, as the end of the head's machine does."""
        head = self._cluster.head_node
        for started in head.all_processes["gcs_server"]:
            started.process.kill()

    def end(self) -> None:
        """End all processes; nothing happens if they were ended before."""
        if self._cluster.head_node is None:
            return
        session = self._cluster.head_node.get_session_dir_path()
        self._cluster.shutdown()
        shutil.rmtree(session, ignore_errors=True)


def cluster_site(folder: Path, bundle: Bundle, address: str, lacking: Path | None = None) -> Site:
    """Create a site whose slides a cluster scores.

    Args:
        lacking: a folder that no node has.
    """
    site = Site.made(folder, bundle)
    paths = "" if lacking is None else f'paths = {{ "{lacking}" = "/nowhere" }}\n'
    site.config.write_text(f"{site.config.read_text()}[cluster]\n{paths}")
    site.set("cluster", address=address, actor_cpus=1, most_slides=8)
    site.set("inference", backend="onnxruntime")
    return site
