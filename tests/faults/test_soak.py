"""`make soak` processes two thousand slides with one daemon, which must not grow or lose any."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import httpx
import numpy as np
import psutil
import pytest
from daemon_site import Site

from her2d.queue.job import JobState

pytestmark = pytest.mark.soak

SLIDES = int(os.environ.get("SOAK_SLIDES", "2000"))
AT_ONCE = 20
MOST_SERIES = 400
WARM_UP = 0.25  # share of the slides during which caches and pools still grow
MOST_KIB_A_SLIDE = 4.0  # 1 GB in 250,000 slides
MOST_A_THOUSAND_SLIDES = 1.0  # file descriptors, and threads


@dataclass(frozen=True, slots=True)
class Reading:
    """The resources of the daemon's process after a number of slides."""

    slides: int
    rss_kib: float
    descriptors: int
    threads: int


def slope(readings: list[Reading], of: Callable[[Reading], float]) -> float:
    """Return the growth per slide, by least squares over the readings after the warm-up."""
    kept = [reading for reading in readings if reading.slides >= WARM_UP * SLIDES]
    slides = [reading.slides for reading in kept]
    return float(np.polyfit(slides, [of(reading) for reading in kept], 1)[0])


def series(site: Site) -> list[str]:
    """Return the lines of a scrape, one for each series."""
    page = httpx.get(f"http://127.0.0.1:{site.port()}/metrics").raise_for_status().text
    return [line for line in page.splitlines() if not line.startswith("#")]


def least_rss_kib(process: psutil.Process) -> float:
    """Of a second: the last slide is done a moment before its memory is given back, and what is
    still held then differs by more than a thousand slides may leave behind."""
    least = float("inf")
    for _ in range(10):
        least = min(least, process.memory_info().rss / 1024)
        time.sleep(0.1)
    return least


def soak(site: Site, write_slide) -> tuple[list[Reading], list[str]]:
    readings = []
    with site.daemon() as daemon:
        process = psutil.Process(daemon.pid)
        for first in range(0, SLIDES, AT_ONCE):
            for number in range(first, min(first + AT_ONCE, SLIDES)):
                write_slide(["Sw", "tS"], f"{number:05}.tif", folder=site.inbox)
            last = min(first + AT_ONCE, SLIDES)
            site.wait_until(lambda last=last: site.count(JobState.DONE) >= last)
            rss_kib = least_rss_kib(process)
            readings.append(Reading(last, rss_kib, process.num_fds(), process.num_threads()))
        return readings, series(site)


def test_two_thousand_slides_leave_memory_descriptors_and_threads_flat(site, write_slide):
    site.set("intake", settle_s=0.2)
    started = time.monotonic()
    readings, scraped = soak(site, write_slide)
    kib = slope(readings, lambda reading: reading.rss_kib)
    descriptors = 1000 * slope(readings, lambda reading: reading.descriptors)
    threads = 1000 * slope(readings, lambda reading: reading.threads)
    print(  # noqa: T201
        f"\n{SLIDES} slides in {time.monotonic() - started:.0f} s;"
        f" RSS {readings[0].rss_kib / 1024:.0f} -> {readings[-1].rss_kib / 1024:.0f} MiB,"
        f" slope {kib:+.2f} KiB a slide; descriptors {readings[-1].descriptors},"
        f" slope {descriptors:+.2f} a thousand slides; threads {readings[-1].threads},"
        f" slope {threads:+.2f} a thousand slides; {len(scraped)} series"
    )
    growth = [f"{reading.slides}: {reading.rss_kib / 1024:.1f}" for reading in readings[::10]]
    print("MiB after so many slides:", ", ".join(growth))  # noqa: T201
    assert site.runs() == len(site.results()) == len(site.jobs(JobState.DONE)) == SLIDES
    assert site.integrity() == "ok"
    assert len(scraped) < MOST_SERIES
    assert kib < MOST_KIB_A_SLIDE
    assert abs(descriptors) < MOST_A_THOUSAND_SLIDES
    assert abs(threads) < MOST_A_THOUSAND_SLIDES
