"""Compare the simulation with a real daemon, a real database and a real cluster on this machine."""

import contextlib
import json
import os
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from her2d.simulator.tissue import tissue_tiles
from tools.benchmark.slide import write_tissue_slide
from tools.cluster_simulation.local_cluster import local_cluster
from tools.cluster_simulation.model import Archive, ServiceTimes, Site
from tools.cluster_simulation.simulation import Simulation

ACTORS = (1, 2, 3)
_ROWS = 2  # of eight tiles
_PATIENCE_S = 3600
_CONFIG = """
[bundle]
path = "{bundle}"
[intake]
inboxes = ["{inbox}"]
settle_s = 0.4
sweep_s = 1.0
poll_s = 0.5
min_free_mb = 0
[inference]
backend = "onnxruntime"
[results]
database = "{database}"
[ops]
port = 0
log_format = "json"
[cluster]
address = "{address}"
actor_cpus = 1
least_engines = {actors}
"""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Slides a minute with so many actors: of the real system, and as simulated."""

    actors: int
    real: float
    simulated: float


def validate(bundle: Path, times: ServiceTimes, *, slides: int, repeats: int) -> list[Comparison]:
    """Score slides with 1, 2 and 3 actors on this machine; take the median of the repeats."""
    real: dict[int, list[float]] = {actors: [] for actors in ACTORS}
    for _ in range(repeats):
        for actors in ACTORS:
            with tempfile.TemporaryDirectory() as folder:
                real[actors].append(_slides_a_minute(bundle, Path(folder), actors, slides))
    return [
        Comparison(actors, statistics.median(real[actors]), simulated(times, actors, slides))
        for actors in ACTORS
    ]


def simulated(times: ServiceTimes, actors: int, slides: int) -> float:
    """Return the slides a minute of a simulated machine whose cores the actors share."""
    cores = len(os.sched_getaffinity(0))
    site = Site(nodes=1, engines=actors, owner_cpus=cores, shared_cpus=float(cores))
    archive = Archive(slides, tiles=8.0 * _ROWS, tiles_variation=0)
    return Simulation(times, site, archive).run().slides_an_hour / 60


def _slides_a_minute(bundle: Path, folder: Path, actors: int, slides: int) -> float:
    inbox, database = folder / "inbox", folder / "her2d.sqlite"
    inbox.mkdir()
    tissue = tissue_tiles(8)
    with local_cluster(nodes=1, cpus=actors) as address:
        config = folder / "config.toml"
        config.write_text(
            _CONFIG.format(
                bundle=bundle, inbox=inbox, database=database, address=address, actors=actors
            )
        )
        with _daemon(config, folder / "log.jsonl") as log:
            _wait(lambda: _usable_actors(log) == actors)
            for number in range(slides):
                # Of other content each, which JPEG keeps, and complete at once.
                tissue[0, :16, :16] = 10 * (number % 25), 10 * (number // 25 % 25), 0
                part = folder / "slide.part"
                write_tissue_slide(part, tissue, _ROWS)
                part.rename(inbox / f"{number:04}.tif")
            _wait(lambda: len(_ended(database)) >= slides)
    ended = _ended(database)
    # From the first to the last end, so that neither arrival nor an empty queue counts.
    began, last = (datetime.fromisoformat(ended[at]) for at in (0, -1))
    return 60 * (slides - 1) / (last - began).total_seconds()


@contextlib.contextmanager
def _daemon(config: Path, log: Path) -> Iterator[Path]:
    command = [sys.executable, "-m", "her2d", "run", "--config", str(config)]
    with log.open("wb") as lines:
        process = subprocess.Popen(command, stderr=lines)
    try:
        yield log
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _usable_actors(log: Path) -> int:
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    return max(
        (line["actors"] for line in lines if line["event"] == "cluster_node_usable"), default=0
    )


def _ended(database: Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db:
        return [at for (at,) in db.execute("select finished_at from runs order by finished_at")]


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        with contextlib.suppress(sqlite3.Error):
            if condition():
                return
        time.sleep(0.2)
    raise TimeoutError("The real system did not get there.")
