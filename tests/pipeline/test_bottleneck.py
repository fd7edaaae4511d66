"""The bottleneck is the part that works most of the time while the others wait."""

import threading
from dataclasses import replace

import pytest

from her2d.pipeline.bottleneck import (
    BOTTLENECKS,
    WAITING_FOR_SLIDES,
    Occupancy,
    PipelineTimes,
    RecentBottleneck,
    find_bottleneck,
)

START = PipelineTimes(at=1000.0, stages={"upload": 7.0, "segment": 50.0, "classify": 20.0})
# 100 s later: two slides in the pipeline all the time, and nothing has worked yet.
FULL = replace(START, at=1100.0, occupied_s=100.0, slide_s=200.0)


def later(upload: float = 1.0, segment: float = 30.0, classify: float = 10.0, **changed: float):
    stages = {"upload": 7.0 + upload, "segment": 50.0 + segment, "classify": 20.0 + classify}
    return replace(FULL, stages=stages, **changed)


@pytest.mark.parametrize(
    ("after", "stage"),
    [
        (later(segment=97.0, classify=40.0), "segment"),
        (later(segment=40.0, classify=98.0), "classify"),
        (later(upload=90.0, segment=33.0), "upload"),
        # Both slides waited for tiles, whose threads decoded them.
        (later(tile_wait_s=180.0, decode_s=190.0, read_s=20.0), "decode"),
        # They did, and these threads waited for the storage.
        (later(tile_wait_s=180.0, decode_s=190.0, read_s=170.0), "disk"),
        # Decoding takes as long, but slides seldom wait for it.
        (later(segment=97.0, tile_wait_s=10.0, decode_s=190.0, read_s=170.0), "segment"),
        (later(score_s=150.0), "score"),
    ],
)
def test_it_is_what_works_most_of_the_time(after, stage):
    assert find_bottleneck(START, after).stage == stage


def test_a_pipeline_without_slides_most_of_the_time_waits_for_slides():
    seldom = replace(later(segment=30.0), occupied_s=31.0, slide_s=31.0)
    found = find_bottleneck(START, seldom)
    assert found.stage == WAITING_FOR_SLIDES
    assert found.busy["segment"] == pytest.approx(30 / 31)
    assert find_bottleneck(START, START).stage == WAITING_FOR_SLIDES


def test_it_is_named_even_if_nothing_works_for_half_of_the_time():
    assert find_bottleneck(START, later(segment=30.0, classify=20.0)).stage == "segment"


def test_shares_are_of_the_time_with_slides_and_lie_between_0_and_1():
    after = later(segment=101.0, tile_wait_s=50.0, decode_s=100.0, read_s=25.0)
    busy = find_bottleneck(START, after).busy
    assert set(busy) == set(BOTTLENECKS) - {WAITING_FOR_SLIDES}
    assert busy == pytest.approx(
        {
            "disk": 0.0625,
            "decode": 0.1875,
            "upload": 0.01,
            "segment": 1.0,
            "classify": 0.1,
            "score": 0.0,
        }
    )


def test_what_happened_more_than_five_minutes_ago_does_not_count():
    recent = RecentBottleneck(START)
    times = later(segment=97.0)
    assert recent.advance(times).stage == "segment"
    for _ in range(40):
        stages = {**times.stages, "classify": times.stages["classify"] + 9.5}
        times = replace(
            times,
            at=times.at + 10.0,
            occupied_s=times.occupied_s + 10.0,
            slide_s=times.slide_s + 20.0,
            stages=stages,
        )
        found = recent.advance(times)
    assert found.stage == "classify"
    assert found.busy["segment"] == 0.0
    assert found.busy["classify"] == pytest.approx(0.95)


def test_readings_that_are_far_apart_are_compared_with_each_other():
    recent = RecentBottleneck(START)
    hour = later(segment=97.0, at=4600.0, occupied_s=3600.0, slide_s=3600.0)
    assert recent.advance(hour).busy["segment"] == pytest.approx(97 / 3600)


def test_time_with_slides_is_counted_once_and_that_of_slides_for_each():
    occupancy, pause = Occupancy(), threading.Event()
    with occupancy.slide(), occupancy.slide():
        pause.wait(0.2)
        inside = occupancy.read()
    occupied_s, slide_s = occupancy.read()
    pause.wait(0.2)
    assert occupancy.read() == (occupied_s, slide_s)
    assert inside[0] >= 0.2
    assert slide_s == pytest.approx(2 * occupied_s, abs=0.05)
