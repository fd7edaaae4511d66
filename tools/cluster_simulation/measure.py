"""Measure the service times of the simulation: real SQLite, real pictures, a real cluster of Ray.

All are processor time, which other programs on the machine do not change, except the start.
"""

import json
import statistics
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from her2d.bundle.loading import Bundle, load_bundle
from her2d.cluster.plan import NodeResult, SlideTask
from her2d.cluster.processor import open_cluster_processor
from her2d.db.connection import open_database
from her2d.processing.identity import open_scan
from her2d.processing.processor import Processor, ScoredSlide, open_processor
from her2d.processing.recorder import Recorder
from her2d.processing.records import RunClock
from her2d.queue.store import JobQueue
from her2d.settings import ClusterSettings, InferenceSettings, Settings
from her2d.simulator.tissue import tissue_tiles
from tools.benchmark.slide import write_tissue_slide
from tools.cluster_simulation.local_cluster import PARTS, cpu_by_part, cpu_since, local_cluster
from tools.cluster_simulation.model import ServiceTimes

MEASURED = Path(__file__).with_name("measured.json")

_JOBS = 40
_HASHED_MB = 256
_SLIDES = 12
_PICTURE = (13, 16)  # tiles, as many as the tissue of a section; what a picture is drawn of
_CPUS = 1
_POLLS = 200
_REST_S = 5.0
_LONG_S = 600.0
_WAITING = """
with recursive n(i) as (select 1 union all select i + 1 from n where i < ?)
insert into jobs (path, file_name, inbox, state, size, mtime_ns, discovered_at)
select '/in/' || i, i || '.tif', '/in', 'queued', 1, 1, '2026-01-01T00:00:00.000000Z' from n
"""


def measured() -> ServiceTimes:
    """Return what was measured last."""
    return ServiceTimes(**json.loads(MEASURED.read_text())["seconds"])


def machine() -> str:
    """Return what that was measured on, and when."""
    found = json.loads(MEASURED.read_text())["machine"]
    return f"{found['cores']} cores ({found['processor']}, {found['date']})"


def measure(bundle_path: Path, folder: Path) -> ServiceTimes:
    """Measure with a bundle; slides, pictures and a database are written to the folder."""
    bundle = load_bundle(bundle_path)
    settings = Settings(inference=InferenceSettings(backend="onnxruntime", threads=_CPUS))
    rows, columns = _PICTURE
    mostly_glass = np.full((rows * columns, 512, 512, 3), 245, np.uint8)
    mostly_glass[0] = tissue_tiles(1)[0]
    glass, few, many = (folder / name for name in ("glass.tif", "few.tif", "many.tif"))
    write_tissue_slide(glass, mostly_glass, rows, columns)
    write_tissue_slide(few, tissue_tiles(8), 1)
    write_tissue_slide(many, tissue_tiles(8), 5)
    with open_processor(bundle, settings) as processor:
        scored = _score(processor, glass)
        few_s, many_s = (_cpu_s(lambda path=path: _score(processor, path)) for path in (few, many))  # type: ignore[misc]
        tile_s = (many_s - few_s) / 32
        recorder = Recorder(bundle, processor.software, folder / "heatmaps")
        claim_s, hashed_s, draw_s, record_s = _owner_s(recorder, scored, folder / "measured.sqlite")
    result = scored.outcome.overview
    handing = _handing(bundle, glass, many)
    return ServiceTimes(
        claim_s=claim_s,
        hashed_s=hashed_s,
        record_s=record_s,
        python_s=handing.python_s,
        draw_s=draw_s,
        driver_s=handing.driver_s,
        driver_poll_s=handing.driver_poll_s,
        python_poll_s=handing.python_poll_s,
        hash_mb_s=_hash_mb_s(folder / "hashed"),
        slide_s=max(0.0, few_s - 8 * tile_s),
        tile_s=tile_s,
        result_mb=(result.rgb.nbytes + result.tumor.nbytes) / 1e6,
        start_s=handing.start_s,
    )


def save(times: ServiceTimes, here: dict[str, str]) -> None:
    """Store what was measured, and on what."""
    rounded = {name: float(f"{value:.4g}") for name, value in asdict(times).items()}
    MEASURED.write_text(json.dumps({"machine": here, "seconds": rounded}, indent=2) + "\n")


def _score(processor: Processor, path: Path) -> ScoredSlide:
    with open_scan(path) as scan:
        return processor.hash_and_score(scan, lambda _: None)[1]


def _cpu_s(step: Callable[[], object], repeats: int = 5) -> float:
    """Return the median processor time of this process that a step takes."""
    taken = []
    for _ in range(repeats):
        began = time.process_time()
        step()
        taken.append(time.process_time() - began)
    return statistics.median(taken)


def _owner_s(recorder: Recorder, scored: ScoredSlide, database: Path) -> list[float]:
    """Return what it takes to claim a job, store its hash, draw and record a slide."""
    db = open_database(database)
    with db.atomic():
        db.execute(_WAITING, [100_000])
    jobs = JobQueue(db)
    taken: list[tuple[float, ...]] = []
    for number in range(_JOBS):
        at = [time.process_time()]
        job = jobs.claim()
        assert job is not None
        at.append(time.process_time())
        digest = f"blake2b:{number}"
        jobs.store_content_hash(job, digest, 0)
        at.append(time.process_time())
        complete = recorder.draw(scored, digest, RunClock(job.queued_at))
        at.append(time.process_time())
        recorder.record(db, complete, job.id)
        at.append(time.process_time())
        taken.append(tuple(after - before for before, after in pairwise(at)))
    db.close()
    return [statistics.median(each) for each in zip(*taken, strict=True)]


def _hash_mb_s(path: Path) -> float:
    path.write_bytes(np.random.default_rng(0).bytes(_HASHED_MB * 10**6))
    with open_scan(path) as scan:
        seconds = _cpu_s(scan.content_hash)
    path.unlink()
    return _HASHED_MB / seconds


@dataclass(frozen=True, slots=True)
class _Handing:
    """What handing a slide to a node takes of the driver process and of the daemon's.

    A poll asks whether a slide is done; `start_s` is until the first engine can be used.
    """

    driver_s: float
    python_s: float
    driver_poll_s: float
    python_poll_s: float
    start_s: float


def _handing(bundle: Bundle, slide: Path, long_slide: Path) -> _Handing:
    """Hand slides to a real cluster; what its parts take at rest is not counted."""
    with local_cluster(nodes=1, cpus=_CPUS) as address:
        settings = Settings(
            inference=InferenceSettings(backend="onnxruntime"),
            cluster=ClusterSettings(address=address, actor_cpus=_CPUS),
        )
        began = time.monotonic()
        with open_cluster_processor(bundle, lambda: settings) as processor:
            while not processor.capacity:
                time.sleep(0.05)
            start_s = time.monotonic() - began
            connection = processor.connection

            def hand(path: Path) -> SlideTask:
                with open_scan(path) as scan:
                    state, first_block = scan.state, scan.first_block()
                task = SlideTask(
                    uuid.uuid4().hex, path, None, state.size, state.mtime_ns, first_block, None
                )
                assert connection.begin(task)
                return task

            def finish(task: SlideTask) -> None:
                while not isinstance(connection.next(task, _LONG_S), NodeResult):
                    pass

            finish(hand(slide))
            rest = _Rate.of(lambda: time.sleep(_REST_S))

            def hand_all() -> None:
                for _ in range(_SLIDES):
                    finish(hand(slide))

            handed = _Rate.of(hand_all)
            under_way = hand(long_slide)
            polled = _Rate.of(lambda: [connection.next(under_way, 0.0) for _ in range(_POLLS)])
            finish(under_way)
    driver, python = (handed.beyond(rest, part) / _SLIDES for part in PARTS[1::-1])
    driver_poll, python_poll = (polled.beyond(rest, part) / _POLLS for part in PARTS[1::-1])
    return _Handing(driver, python, driver_poll, python_poll, start_s)


@dataclass(frozen=True, slots=True)
class _Rate:
    """Processor time that each part took while something was done, which took so long."""

    cpu_s: Mapping[str, float]
    wall_s: float

    @classmethod
    def of(cls, step: Callable[[], object]) -> "_Rate":
        before, began = cpu_by_part(), time.monotonic()
        step()
        return cls(cpu_since(before), time.monotonic() - began)

    def beyond(self, rest: "_Rate", part: str) -> float:
        """Return what a part took beyond what it takes at rest in that time."""
        return max(0.0, self.cpu_s[part] - rest.cpu_s[part] * self.wall_s / rest.wall_s)
