"""The simulation itself: what the daemon's workers do with each slide, in simulated time."""

import math
from collections import Counter, deque
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from simpy import Environment, Event, Resource

from tools.cluster_simulation.fair_link import FairLink
from tools.cluster_simulation.model import Archive, Found, Losses, ServiceTimes, Site

Steps = Generator[Event, Any, Any]

_BLOCK = 4096
_POLL_S = 0.5  # of `her2d.cluster.processor`


class _NodeLostError(Exception):
    """A node was lost with the slide that it scored."""


@dataclass(slots=True, eq=False)
class _Engine:
    """An engine, which its slides share evenly."""

    cpu: FairLink
    slides: int = 0


@dataclass(slots=True, eq=False)
class _Node:
    network: FairLink
    engines: list[_Engine]
    lost: Event
    lives: bool = True


@dataclass(slots=True)
class _Part:
    """Something that serves one at a time, or some at a time, in order."""

    resource: Resource
    used_s: float = 0.0

    def take(self, env: Environment, seconds: float) -> Steps:
        if not seconds:
            return
        with self.resource.request() as turn:
            yield turn
            yield env.timeout(seconds)
            self.used_s += seconds


@dataclass(slots=True)
class _Slide:
    number: int
    tiles: float
    size_mb: float
    arrived_s: float


@dataclass(slots=True)
class _Draws:
    """Random numbers of a gamma distribution, drawn in blocks; a variation of 0 is its mean."""

    rng: np.random.Generator
    mean: float
    variation: float
    ready: deque[float] = field(default_factory=deque)

    def next(self) -> float:
        if not self.mean or not self.variation:
            return self.mean
        if not self.ready:
            shape = 1 / self.variation**2
            self.ready.extend(self.rng.gamma(shape, self.mean / shape, _BLOCK).tolist())
        return self.ready.popleft()


class Simulation:
    """One run: an archive, scored by a site. `run` may be called once."""

    def __init__(
        self,
        times: ServiceTimes,
        site: Site,
        archive: Archive,
        losses: Losses | None = None,
        *,
        seed: int = 0,
    ) -> None:
        self._times, self._site, self._archive = times, site, archive
        self._losses = losses or Losses()
        env = self._env = Environment()
        of_tiles, of_sizes, of_arrivals, of_losses = (
            np.random.default_rng(each) for each in np.random.SeedSequence(seed).spawn(4)
        )
        self._tiles = _Draws(of_tiles, archive.tiles, archive.tiles_variation)
        self._sizes = _Draws(of_sizes, archive.size_mb, archive.size_variation)
        self._gaps = _Draws(of_arrivals, archive.every_s or 0.0, 1.0)
        self._lives = _Draws(of_losses, self._losses.every_s, 1.0)
        self._database = _Part(Resource(env, 1))
        self._python = _Part(Resource(env, 1))
        self._cpus = _Part(Resource(env, site.owner_cpus))
        self._driver = _Part(Resource(env, 1))
        # One thread hashes what it reads: a flow is no faster than that.
        self._storage = FairLink(env, site.storage_mb_s, times.hash_mb_s)
        self._owner_network = FairLink(env, site.owner_mb_s)
        self._shared = None if site.shared_cpus is None else FairLink(env, site.shared_cpus, 1.0)
        self._nodes = [self._new_node() for _ in range(site.nodes)]
        self._retired_cpu_s = 0.0
        self._queue: deque[_Slide] = deque()
        self._more: Event = env.event()
        self._freed: Event = env.event()
        self._recorded: Counter[int] = Counter()
        self._finished: Event = env.event()
        self._lost = 0
        self._waited_s = 0.0

    def run(self) -> Found:
        """Simulate until every slide has its result."""
        env, site = self._env, self._site
        env.process(self._arrive())
        for _ in range(site.places):
            env.process(self._work())
        if math.isfinite(self._losses.every_s):
            for at in range(site.nodes):
                env.process(self._lose(at))
        env.run(until=self._finished)
        seconds = env.now
        return Found(
            slides=len(self._recorded),
            seconds=seconds,
            lost=self._lost,
            recorded_twice=sum(times > 1 for times in self._recorded.values()),
            waited_s=self._waited_s / self._archive.slides,
            busy={part: used / seconds for part, used in self._used_s().items()},
        )

    def _used_s(self) -> dict[str, float]:
        site = self._site
        engine_s = self._retired_cpu_s + sum(
            engine.cpu.carried for node in self._nodes for engine in node.engines
        )
        return {
            "engines": engine_s / (site.nodes * site.engines),
            "database": self._database.used_s,
            "daemon's interpreter": self._python.used_s,
            "daemon's processors": self._cpus.used_s / site.owner_cpus,
            "driver process": self._driver.used_s,
            "storage": self._storage.carried / site.storage_mb_s,
            "daemon's network": self._owner_network.carried / site.owner_mb_s,
        }

    # Slides and nodes that come and go

    def _arrive(self) -> Steps:
        for number in range(self._archive.slides):
            if self._archive.every_s is not None:
                yield self._env.timeout(self._gaps.next())
            slide = _Slide(number, self._tiles.next(), self._sizes.next(), self._env.now)
            self._add(slide)

    def _add(self, slide: _Slide) -> None:
        self._queue.append(slide)
        if not self._more.triggered:
            self._more.succeed()

    def _new_node(self) -> _Node:
        env, site = self._env, self._site
        engines = [_Engine(FairLink(env, 1.0, 1.0)) for _ in range(site.engines)]
        return _Node(FairLink(env, site.node_mb_s), engines, env.event())

    def _lose(self, at: int) -> Steps:
        """Lose the node at this place, again and again, and replace it."""
        while True:
            yield self._env.timeout(self._lives.next())
            node = self._nodes[at]
            node.lives = False
            node.lost.succeed()
            self._retired_cpu_s += sum(engine.cpu.carried for engine in node.engines)
            for engine in node.engines:
                engine.cpu.carried = 0.0
            yield self._env.timeout(self._losses.back_s + self._times.start_s)
            self._nodes[at] = self._new_node()
            self._free()

    def _free(self) -> None:
        if not self._freed.triggered:
            self._freed.succeed()

    # What a worker of the daemon does

    def _work(self) -> Steps:
        env = self._env
        while True:
            while not self._queue:
                if self._more.triggered:
                    self._more = env.event()
                yield self._more
            slide = self._queue.popleft()
            yield from self._database.take(env, self._times.claim_s)
            try:
                began = yield from self._place_and_score(slide)
            except _NodeLostError:
                self._lost += 1
                yield env.timeout(self._losses.noticed_s)
                yield from self._database.take(env, self._times.claim_s)
                self._add(slide)
                continue
            polls = (env.now - began) / _POLL_S
            yield from self._database.take(env, self._times.hashed_s)
            self._waited_s += began - slide.arrived_s
            yield from self._record(slide, polls)

    def _place_and_score(self, slide: _Slide) -> Steps:
        """Score a slide on the engine that has the fewest; return when that began.

        Its file is read through the storage's link and the node's, and hashed, beside its tiles.
        """
        env = self._env
        while (found := self._place()) is None:
            if self._freed.triggered:
                self._freed = env.event()
            yield self._freed
        node, engine = found
        began = env.now
        engine.slides += 1
        try:
            seconds = self._times.slide_s + slide.tiles * self._times.tile_s
            flows = [(engine.cpu, seconds)]
            if slide.size_mb:
                flows += [(self._storage, slide.size_mb), (node.network, slide.size_mb)]
            if self._shared is not None:
                flows.append((self._shared, seconds))
            yield from self._carry(flows, node)
        finally:
            engine.slides -= 1
            self._free()
        return began

    def _place(self) -> tuple[_Node, _Engine] | None:
        most = self._site.slides_an_engine
        free = (
            (engine.slides, at, node, engine)
            for at, node in enumerate(self._nodes)
            if node.lives
            for engine in node.engines
            if engine.slides < most
        )
        best = min(free, key=lambda each: each[:2], default=None)
        return None if best is None else (best[2], best[3])

    def _carry(self, flows: list[tuple[FairLink, float]], node: _Node) -> Steps:
        """Wait for all flows. Raises _NodeLostError if the node is lost before."""
        events = [link.carry(amount) for link, amount in flows]
        if math.isinf(self._losses.every_s):
            for event in events:
                yield event
            return
        yield self._env.all_of(events) | node.lost
        if not node.lives:
            for (link, _), event in zip(flows, events, strict=True):
                link.abandon(event)
            raise _NodeLostError

    def _record(self, slide: _Slide, polls: float) -> Steps:
        env, times = self._env, self._times
        driver_s = times.driver_s + polls * times.driver_poll_s
        python_s = times.python_s + polls * times.python_poll_s
        if times.result_mb:
            yield self._owner_network.carry(times.result_mb)
        cpu_s = driver_s + python_s + times.draw_s
        shared = None if self._shared is None else self._shared.carry(cpu_s)
        yield from self._driver.take(env, driver_s)
        yield from self._python.take(env, python_s)
        yield from self._cpus.take(env, times.draw_s)
        if shared is not None:
            yield shared
        yield from self._database.take(env, times.record_s)
        self._recorded[slide.number] += 1
        if len(self._recorded) == self._archive.slides and not self._finished.triggered:
            self._finished.succeed()
