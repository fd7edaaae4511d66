"""How many engines the waiting slides need. Ray and its autoscaler decide where they run."""

from dataclasses import dataclass
from typing import Self

from her2d.settings import Settings


@dataclass(frozen=True, slots=True)
class ScalingRules:
    """The limits of the number of engines.

    Attributes:
        least, most: engines that are kept at least, and started at most.
        slides_per_engine: slides that an engine takes at once.
        release_after_s: how long fewer engines must have been enough before one is released.
        autoscales: whether engines for which no node has room are requested from Ray's autoscaler.
    """

    least: int
    most: int
    slides_per_engine: int
    release_after_s: float
    autoscales: bool = False

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the limits that the settings state."""
        wanted, slides = settings.cluster, settings.pipeline.slides_in_flight
        return cls(
            wanted.least_engines,
            -(-wanted.most_slides // slides),
            slides,
            wanted.release_after_s,
            wanted.autoscales,
        )

    def needed(self, backlog: int) -> int:
        """Return the number of engines that take so many slides at once, within the limits."""
        engines = -(-backlog // self.slides_per_engine)
        return max(min(engines, self.most), min(self.least, self.most))


def engines_on(cpus: float, gpus: float, *, cpus_each: int, gpus_each: int) -> int:
    """Return the number of engines for which a node has CPUs and GPUs.

    Args:
        cpus, gpus: of the node.
        cpus_each, gpus_each: that an engine takes; one without a GPU takes 0 of them.
    """
    by_cpus = int(cpus) // cpus_each
    return min(by_cpus, int(gpus) // gpus_each) if gpus_each else by_cpus


@dataclass(frozen=True, slots=True)
class Scale:
    """The number of engines that are wanted.

    Attributes:
        fewer_since: when fewer were needed for the first time since all were; None if all are.
        fewer: the most that were needed since then.
    """

    engines: int = 0
    fewer_since: float | None = None
    fewer: int = 0


def rescaled(scale: Scale, backlog: int, now: float, rules: ScalingRules) -> Scale:
    """Return the number of engines for a backlog: more at once, fewer only after a while.

    Slides come in bursts, and an engine takes longer to load than many a slide to score. So an
    engine is released once it was not needed for `release_after_s`.

    Args:
        scale: as it was decided last.
        backlog: slides that wait or are scored.
        now: time in seconds, of a clock that is never set back.
        rules: the limits.
    """
    needed = rules.needed(backlog)
    if needed >= scale.engines:
        return Scale(needed)
    if scale.fewer_since is None:
        return Scale(scale.engines, now, needed)
    fewer = max(scale.fewer, needed)
    if now - scale.fewer_since < rules.release_after_s:
        return Scale(scale.engines, scale.fewer_since, fewer)
    return Scale(fewer, now, needed) if needed < fewer else Scale(fewer)
