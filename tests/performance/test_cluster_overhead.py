"""Scoring by two actors of a cluster on this machine, against one process with two threads.

pytest -m benchmark -s tests/performance/test_cluster_overhead.py

The same slides by both, in turn, each with engines that are loaded: seconds until the last is
scored, which mean something on an idle machine only, and seconds of processor time, by whose they
are. It takes five minutes of two idle cores.
"""

import statistics
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from waiting import wait_until

from her2d.bundle.loading import load_bundle
from her2d.cluster.processor import open_cluster_processor
from her2d.processing.identity import open_scan
from her2d.processing.processor import Processor, open_processor
from her2d.settings import ClusterSettings, InferenceSettings, Settings
from her2d.simulator.tissue import tissue_tiles
from tools.benchmark.slide import write_tissue_slide
from tools.cluster_simulation.local_cluster import PARTS, cpu_by_part, cpu_since, local_cluster

pytestmark = pytest.mark.benchmark

BUNDLE = Path(__file__).parents[2] / "engines" / "her2net-demo"
ACTORS, ROUNDS = 2, 5
SLIDES, ROWS = 8, 6  # of eight tiles each


@dataclass(frozen=True)
class Cost:
    """What a round of all slides took, in seconds: until its end, and of processor time by part."""

    wall_s: float
    cpu_s: Mapping[str, float]

    @property
    def all_cpu_s(self) -> float:
        return sum(self.cpu_s.values())


@contextmanager
def costing(costs: list[Cost]) -> Iterator[None]:
    before, began = cpu_by_part(), time.monotonic()
    yield
    wall_s = time.monotonic() - began
    costs.append(Cost(wall_s, cpu_since(before)))


def score_all(processor: Processor, slides: list[Path]) -> None:
    """Score slides as the daemon's workers do."""

    def score(path: Path) -> None:
        with open_scan(path) as scan:
            processor.hash_and_score(scan, lambda _: None)

    with ThreadPoolExecutor(processor.capacity) as workers:
        list(workers.map(score, slides))


def report(name: str, costs: list[Cost]) -> None:
    wall_s = statistics.median(cost.wall_s for cost in costs)
    cpu_s = statistics.median(cost.all_cpu_s for cost in costs)
    parts = ", ".join(
        f"{part} {statistics.median(cost.cpu_s[part] for cost in costs):.2f}" for part in PARTS
    )
    print(f"{name}: {wall_s:.1f} s, {cpu_s:.2f} s of processor time ({parts})")


def test_two_actors_of_a_cluster_against_two_threads_of_this_process(tmp_path):
    pytest.importorskip("ray", reason="ray is not installed: pip install 'her2d[cluster]'")
    slides = [tmp_path / f"{number}.tif" for number in range(SLIDES)]
    for path in slides:
        write_tissue_slide(path, tissue_tiles(8), ROWS)
    bundle = load_bundle(BUNDLE)
    inference = InferenceSettings(backend="onnxruntime")
    local_costs: list[Cost] = []
    cluster_costs: list[Cost] = []
    starts: list[Cost] = []
    rest: list[Cost] = []
    with ExitStack() as opened:
        address = opened.enter_context(local_cluster(nodes=1, cpus=ACTORS))
        two_threads = inference.model_copy(update={"threads": ACTORS})
        local = opened.enter_context(open_processor(bundle, Settings(inference=two_threads)))
        settings = Settings(
            inference=inference, cluster=ClusterSettings(address=address, actor_cpus=1)
        )
        with costing(starts):
            remote = opened.enter_context(open_cluster_processor(bundle, lambda: settings))
            remote.note_backlog(SLIDES)  # engines follow it
            places = ACTORS * settings.pipeline.slides_in_flight
            wait_until(lambda: remote.capacity == places)
        for processor in (local, remote):
            score_all(processor, slides)
        for _ in range(ROUNDS):
            with costing(local_costs):
                score_all(local, slides)
            with costing(cluster_costs):
                score_all(remote, slides)
        with costing(rest):
            time.sleep(10)
    print()
    report("start of the cluster's actors", starts)
    report("ten seconds of rest", rest)
    report("local", local_costs)
    report("cluster", cluster_costs)
    pairs = list(zip(cluster_costs, local_costs, strict=True))
    for name, ratios in (
        ("time", [there.wall_s / here.wall_s for there, here in pairs]),
        ("processor time", [there.all_cpu_s / here.cpu_s["this process"] for there, here in pairs]),
    ):
        shown = " ".join(f"{ratio:.3f}" for ratio in sorted(ratios))
        print(f"cluster / local, {name}: median {statistics.median(ratios):.3f} of {shown}")
