"""A result that is lost with its node before the daemon's machine has fetched it, on a real Ray."""

import pickle
from pathlib import Path

import pytest
from ray_nodes import RayNodes
from waiting import wait_until

from her2d.cluster.plan import Failure, Progress, SlideTask
from her2d.cluster.processor import check_order
from her2d.processing.errors import ClusterLostError
from her2d.processing.identity import open_scan
from her2d.processing.processor import open_processor
from her2d.settings import ClusterSettings, InferenceSettings, Settings

pytestmark = pytest.mark.slow

INLINE_BYTES = 100 * 1024  # Ray sends a smaller result with the call's end, and stores no object


def task_of(path: Path) -> SlideTask:
    with open_scan(path) as scan:
        state, first_block = scan.state, scan.first_block()
    return SlideTask("1", path, None, state.size, state.mtime_ns, first_block, None)


def test_a_result_that_is_lost_with_its_node_is_no_fault_of_the_slide(
    ray_nodes: RayNodes, color_bundle, write_slide
):
    from watched_driver import start_watched_driver

    path = write_slide(["SwSw"] * 4)
    inference = InferenceSettings(backend="onnxruntime", threads=1)
    with (
        open_processor(color_bundle, Settings(inference=inference)) as processor,
        open_scan(path) as scan,
    ):
        assert len(pickle.dumps(processor.score(scan).outcome)) > INLINE_BYTES
    ray_nodes.add()
    settings = Settings(
        inference=inference, cluster=ClusterSettings(address=ray_nodes.address, actor_cpus=1)
    )
    manager, driver = start_watched_driver(check_order(color_bundle, settings))
    try:
        driver.open()
        wait_until(lambda: driver.status().places > 0, 240)
        assert driver.begin(task_of(path))
        wait_until(lambda: driver.has_finished("1"), 240)
        ray_nodes.kill(0)
        # How far the slide is may be said before Ray knows that the node is lost.
        said = (driver.next("1", 0.5) for _ in range(480))
        answer = next(each for each in said if not isinstance(each, Progress | None))
    finally:
        manager.shutdown()
    assert isinstance(answer, Failure)
    assert isinstance(answer.error, ClusterLostError)
    assert "The result was lost on its way" in str(answer.error)
