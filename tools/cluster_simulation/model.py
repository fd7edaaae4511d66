"""What is simulated: the daemon, the network, the nodes, and the archive that they score."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServiceTimes:
    """How long each step takes of what does it, as `measure` finds it; seconds for one slide.

    Attributes:
        claim_s, hashed_s, record_s: that SQLite's one writer is held to claim a job, store its hash
            and record its result.
        python_s: other work of the daemon's interpreter, which runs one thread at a time.
        draw_s: a core of the daemon's machine draws the pictures.
        driver_s: the process that speaks with Ray takes.
        driver_poll_s, python_poll_s: both take each half second that a slide is on a node.
        hash_mb_s: megabytes that one thread hashes in a second.
        slide_s, tile_s: an engine takes for a slide, and for each of its tiles.
        result_mb: megabytes of a result.
        start_s: from a node's arrival until its engines score.
    """

    claim_s: float
    hashed_s: float
    record_s: float
    python_s: float
    draw_s: float
    driver_s: float
    driver_poll_s: float
    python_poll_s: float
    hash_mb_s: float
    slide_s: float
    tile_s: float
    result_mb: float
    start_s: float

    @property
    def database_s(self) -> float:
        """What SQLite's one writer is held for a slide."""
        return self.claim_s + self.hashed_s + self.record_s


@dataclass(frozen=True, slots=True)
class Site:
    """Machines and network.

    Attributes:
        nodes: machines that score.
        engines: on each.
        slides_an_engine: `[pipeline] slides_in_flight`.
        most_slides: `[cluster] most_slides`.
        owner_cpus: of the daemon's machine.
        storage_mb_s, owner_mb_s, node_mb_s: what the storage gives to all, and what the daemon's
            machine and each node take from the network, in megabytes a second.
        shared_cpus: cores that all engines and the daemon share, where the nodes are processes of
            one machine; None if each engine has its own.
    """

    nodes: int
    engines: int = 1
    slides_an_engine: int = 2
    most_slides: int = 4096
    owner_cpus: int = 8
    storage_mb_s: float = math.inf
    owner_mb_s: float = math.inf
    node_mb_s: float = math.inf
    shared_cpus: float | None = None

    @property
    def places(self) -> int:
        """Slides that the daemon has in hand at once."""
        return min(self.most_slides, self.nodes * self.engines * self.slides_an_engine)


@dataclass(frozen=True, slots=True)
class Archive:
    """The slides. Sizes and numbers of tiles have gamma distributions.

    Attributes:
        slides: how many.
        tiles, tiles_variation: tissue tiles on average, and standard deviation / average.
        size_mb, size_variation: of the files, likewise.
        every_s: seconds between arrivals on average, which are exponential; None if all slides wait
            at the beginning.
    """

    slides: int
    tiles: float
    tiles_variation: float = 0.6
    size_mb: float = 0.0
    size_variation: float = 0.5
    every_s: float | None = None


@dataclass(frozen=True, slots=True)
class Losses:
    """How nodes are lost.

    Attributes:
        every_s: seconds that a node lives on average; exponential.
        noticed_s: until Ray and the daemon know.
        back_s: until a node is there instead.
    """

    every_s: float = math.inf
    noticed_s: float = 15.0
    back_s: float = 300.0


@dataclass(frozen=True, slots=True)
class Found:
    """What a simulated run found.

    Attributes:
        slides: recorded.
        seconds: until the last one was.
        lost: attempts that ended with their node.
        recorded_twice: slides with more than one result.
        waited_s: that a slide waited to be claimed, on average.
        busy: what is used -> share of the time in which it was, from 0 to 1.
    """

    slides: int
    seconds: float
    lost: int
    recorded_twice: int
    waited_s: float
    busy: dict[str, float]

    @property
    def slides_an_hour(self) -> float:
        return 3600 * self.slides / self.seconds

    @property
    def limit(self) -> str:
        """What was busy for the largest share of the time."""
        return max(self.busy, key=lambda part: self.busy[part])


def most_slides_an_hour(times: ServiceTimes, site: Site, archive: Archive) -> dict[str, float]:
    """Return what each part alone would carry: no run of the simulation can be faster than any."""
    engine_s = times.slide_s + archive.tiles * times.tile_s
    seconds = {
        "engines": engine_s / (site.nodes * site.engines),
        "database": times.database_s,
        "daemon's interpreter": times.python_s,
        "daemon's processors": times.draw_s / site.owner_cpus,
        "driver process": times.driver_s,
        "storage": archive.size_mb / site.storage_mb_s,
        "daemon's network": times.result_mb / site.owner_mb_s,
    }
    return {part: 3600 / each if each else math.inf for part, each in seconds.items()}
