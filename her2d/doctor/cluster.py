"""Check the cluster, if one scores the slides: whether it answers, and its nodes."""

import time
from collections.abc import Callable, Iterator

from her2d.bundle.loading import Bundle
from her2d.bundle.manifest import BundleError
from her2d.cluster.connection import ClusterConnection
from her2d.cluster.plan import NodeStatus
from her2d.cluster.processor import check_order
from her2d.cluster.scaling import ScalingRules, engines_on
from her2d.doctor.finding import Finding, failure, ok, warning
from her2d.inference.engine import EngineError
from her2d.settings import Settings

_CONNECT_S = 90.0
_NODES_S = 120.0
_LOOK_S = 0.2


def cluster_findings(settings: Settings, bundle: Bundle | BundleError) -> Iterator[Finding]:
    """Connect to the cluster as the daemon does, and ask each node whether it can be used.

    It takes no CPU of a node from the daemon's engines. A GPU that they have is waited for.
    """
    check = "cluster"
    if not settings.cluster.address:
        yield ok(check, "[cluster] address is empty: this machine scores the slides.")
        return
    if isinstance(bundle, BundleError):
        yield warning(
            check,
            "The cluster was not asked, because the bundle cannot be used.",
            "Correct the bundle, then run her2d doctor --cluster again.",
        )
        return
    try:
        order = check_order(bundle, settings)
    except EngineError as error:
        yield failure(check, str(error), "Correct the settings, or install what is missing.")
        return
    with ClusterConnection(order) as connection:
        _wait(lambda: connection.is_connected or connection.is_told, _CONNECT_S)
        if not connection.is_connected:
            yield failure(
                check,
                connection.problem or "The cluster does not answer.",
                "Run ray status on the head, and check [cluster] address and the firewall.",
            )
            return
        _wait(lambda: _all_have_answered(connection.status.nodes), _NODES_S)
        nodes = connection.status.nodes
    yield _of_engines(nodes, settings)
    for node in nodes:
        yield _of_node(node, settings)


def _of_engines(nodes: tuple[NodeStatus, ...], settings: Settings) -> Finding:
    """Compare the room for engines on all nodes with the settings."""
    check, wanted = "cluster", settings.cluster
    most = ScalingRules.of(settings).most
    room = sum(_engines(node, settings) for node in nodes if node.refusal is None)
    found = f"It has room for {_number(room, 'engine')} on {_number(len(nodes), 'node')}"
    if wanted.autoscales:
        return ok(check, f"{found} now. Ray's autoscaler is asked for up to {most}.")
    if not nodes:
        return failure(
            check,
            "The cluster has no node with the CPUs and GPUs that an actor takes.",
            "Start Ray on the nodes (ray start --address ...), or lower [cluster] actor_cpus.",
        )
    if room > most:
        return warning(
            check,
            f"{found}, and {_number(most, 'engine')} at most will be started.",
            f"To use all of it, set [cluster] most_slides to"
            f" {room * settings.pipeline.slides_in_flight}.",
        )
    return ok(check, f"{found}.")


def _engines(node: NodeStatus, settings: Settings) -> int:
    wanted = settings.cluster
    return engines_on(
        node.cpus, node.gpus, cpus_each=wanted.actor_cpus, gpus_each=wanted.actor_gpus
    )


def _number(count: int, of: str) -> str:
    return f"{count} {of}{'' if count == 1 else 's'}"


def _of_node(node: NodeStatus, settings: Settings) -> Finding:
    check = f"node {node.name}"
    has = (
        f"It has {_number(int(node.cpus), 'CPU')} and {_number(int(node.gpus), 'GPU')}, room for"
        f" {_number(_engines(node, settings), 'engine')}."
    )
    if node.refusal is not None:
        return failure(
            check,
            f"{has} The node is not used. {node.refusal}",
            "See Her2dClusterNodeRefused in the runbook.",
        )
    if not node.actors:
        return warning(
            check,
            f"{has} It has not answered in time.",
            "Run ray status on the head: other work may have its GPU.",
        )
    return ok(check, f"{has} Its versions, bundle and engine are as on this machine.")


def _all_have_answered(nodes: tuple[NodeStatus, ...]) -> bool:
    return bool(nodes) and all(node.state != "starting" for node in nodes)


def _wait(condition: Callable[[], bool], patience_s: float) -> None:
    deadline = time.monotonic() + patience_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(_LOOK_S)
