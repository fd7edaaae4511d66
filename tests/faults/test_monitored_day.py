"""A day shortened to minutes, in which the right alerts fire and clear, and no others.

make soak        prints what fired and when
"""

import re
import shutil
import signal
import time
from collections.abc import Callable, Set
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import pytest
import tifffile
import tomli_w
from daemon_site import PATIENCE_S, Site
from onnx import TensorProto, helper, numpy_helper
from prometheus_server import Prometheus, needs_prometheus, prometheus

from her2d.bundle.loading import Bundle, load_bundle, sha256_of
from her2d.queue.job import JobState

RULES = Path(__file__).parents[2] / "systemd" / "monitoring" / "her2d.rules.yml"
SQUEEZE = 60  # a minute is a second
STALL_LOOPS = 25_000_000
STALL_COLOR = (60, 20, 7)

pytestmark = [pytest.mark.soak, needs_prometheus]


def squeezed(folder: Path) -> Path:
    """Copy the alerting rules with every duration divided by 60."""
    text = RULES.read_text()
    text = re.sub(r"\[(\d+)d\]", lambda m: f"[{int(m[1]) * 24 * 60}s]", text)
    text = re.sub(r"\[(\d+)h\]", lambda m: f"[{int(m[1]) * 60}s]", text)
    text = re.sub(r"(for: |\[)(\d+)m", r"\1\2s", text)
    text = re.sub(r"> (600|3600)$", lambda m: f"> {int(m[1]) // SQUEEZE}", text, flags=re.MULTILINE)
    text = (
        text.replace("for: 30s", "for: 1s")
        .replace("interval: 15s", "interval: 1s")
        .replace("> 600)", "> 10)")
    )
    path = folder / "her2d.rules.yml"
    path.write_text(text)
    return path


def stalling(bundle: Bundle, folder: Path) -> Bundle:
    """Copy the bundle with a segmenter that is slow for one colour."""
    shutil.copytree(bundle.directory, folder)
    model = onnx.load(folder / "segmenter.onnx")
    graph = model.graph
    body = helper.make_graph(
        [
            helper.make_node("Mul", ["before", "half"], ["after"]),
            helper.make_node("Identity", ["go"], ["on"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, []),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, []),
        ],
        [numpy_helper.from_array(np.array(0.5, np.float32), "half")],
    )
    constants = {
        "stall_channel": np.array(2, np.int64),
        "stall_value": np.array(STALL_COLOR[2], np.float32),
        "stall_loops": np.array(STALL_LOOPS, np.int64),
        "zero": np.array(0, np.float32),
        "yes": np.array(True),
    }
    graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in constants.items())
    nodes = [
        helper.make_node("Gather", ["tiles", "stall_channel"], ["blue"], axis=3),
        helper.make_node("Cast", ["blue"], ["blue_float"], to=TensorProto.FLOAT),
        helper.make_node("Equal", ["blue_float", "stall_value"], ["stalls"]),
        helper.make_node("Cast", ["stalls"], ["stalls_int"], to=TensorProto.INT64),
        helper.make_node("ReduceMax", ["stalls_int"], ["any"], keepdims=0),
        helper.make_node("Mul", ["any", "stall_loops"], ["loops"]),
        helper.make_node("Loop", ["loops", "yes", "zero"], ["nothing"], body=body),
        helper.make_node("Add", ["red_float", "nothing"], ["red_later"]),
    ]
    for node in graph.node:
        node.input[:] = ["red_later" if name == "red_float" else name for name in node.input]
    graph.node.extend(nodes)
    _sort(graph)
    onnx.checker.check_model(model)
    onnx.save(model, folder / "segmenter.onnx")
    manifest = bundle.manifest.model_dump(mode="json", exclude_none=True)
    manifest["parts"]["segmenter"]["sha256"] = sha256_of(folder / "segmenter.onnx")
    (folder / "manifest.toml").write_text(tomli_w.dumps(manifest))
    return load_bundle(folder)


def _sort(graph: onnx.GraphProto) -> None:
    """Sort the nodes so that each follows the nodes whose outputs it uses, as ONNX requires."""
    known = {"tiles"} | {constant.name for constant in graph.initializer}
    waiting, ordered = list(graph.node), []
    while waiting:
        node = next(node for node in waiting if set(node.input) <= known)
        waiting.remove(node)
        ordered.append(node)
        known |= set(node.output)
    del graph.node[:]
    graph.node.extend(ordered)


@dataclass
class Pager:
    """Waits for alerts."""

    server: Prometheus
    started: float
    firing: set[str] = field(default_factory=set)

    def waits_for(self, expected: set[str], *, meanwhile: Set[str] = frozenset()) -> None:
        """Return once exactly these alerts fire; fail as soon as any other does.

        Args:
            expected: the alerts that fire in the end.
            meanwhile: alerts that may fire before that.
        """
        deadline = time.monotonic() + PATIENCE_S
        while (found := self.server.firing()) != expected:
            unexpected = found - expected - self.firing - meanwhile
            assert not unexpected, f"{unexpected} fired, which nothing had happened for"
            assert time.monotonic() < deadline, f"{found} fire, not {expected}"
            time.sleep(0.2)
        self.firing = expected
        print(f"{time.monotonic() - self.started:6.1f} s  {sorted(expected)}")  # noqa: T201


def test_the_alerts_of_one_day_fire_when_they_should(
    tmp_path: Path,
    color_bundle: Bundle,
    write_slide: Callable[..., Path],
    small_disk: Callable[[int], Path],
) -> None:
    disk = small_disk(64)
    made = Site.made(tmp_path / "site", stalling(color_bundle, tmp_path / "stalling"))
    made.set("results", database=disk / "her2d.sqlite", heatmaps=disk / "heatmaps")
    made.set("intake", min_free_mb=8)
    site = Site(made.folder, disk / "her2d.sqlite")
    with site.daemon() as daemon, prometheus(tmp_path, site.port(), squeezed(tmp_path)) as server:
        server.wait_for("her2d_build_info")
        pager = Pager(server, time.monotonic())
        # Arrivals.
        for number in range(3):
            write_slide(["Sw"], f"{number}.tif", folder=site.inbox)
        site.wait_for(JobState.DONE, jobs=3)
        server.wait_for("her2d_day_results == 3")
        pager.waits_for(set())
        # A burst of failures.
        for number in range(4):
            (site.inbox / f"bad-{number}.tif").write_bytes(b"no slide" * (number + 1))
        pager.waits_for({"Her2dFailing", "Her2dQuarantined"})
        pager.waits_for({"Her2dQuarantined"})
        # A person deals with each of them.
        for job in site.jobs(JobState.QUARANTINED):
            job.path.unlink()
            site.command("queue", "forget", str(job.id))
        pager.waits_for(set())
        # The disk fills, and is cleared.
        filler = disk / "filler"
        filler.write_bytes(bytes(59 << 20))
        site.wait_until(lambda: site.events()["intake_paused"] == 1)
        server.wait_for("her2d_intake_paused == 1")
        pager.waits_for({"Her2dDiskFilling", "Her2dIntakePaused"})
        filler.unlink()
        pager.waits_for(set())
        # A slide without progress.
        tile = np.full((512, 512, 3), STALL_COLOR, np.uint8)
        description = "Motic V1.0.0\n512x512|AppMag = 4|MPP = 2.5"
        tifffile.imwrite(
            site.inbox / "stall.tif",
            tile,
            tile=(512, 512),
            photometric="rgb",
            compression="deflate",
            description=description,
            metadata=None,
        )
        pager.waits_for({"Her2dStalled"})
        # On a busy machine the slide takes more than a minute, which stands for an hour.
        pager.waits_for(set(), meanwhile={"Her2dFallingBehind"})
        site.wait_for(JobState.DONE, jobs=4)
        # It stops answering, and is there again.
        daemon.send_signal(signal.SIGSTOP)
        pager.waits_for({"Her2dDown"})
        daemon.send_signal(signal.SIGCONT)
        pager.waits_for(set())
