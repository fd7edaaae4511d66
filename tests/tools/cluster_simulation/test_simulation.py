"""The simulation against what queueing theory knows exactly, and what no loss may change."""

import math
import statistics
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tools.cluster_simulation.model import (
    Archive,
    Found,
    Losses,
    ServiceTimes,
    Site,
    most_slides_an_hour,
)
from tools.cluster_simulation.simulation import Simulation

NOTHING = ServiceTimes(
    claim_s=0, hashed_s=0, record_s=0, python_s=0, draw_s=0, driver_s=0, hash_mb_s=math.inf,
    driver_poll_s=0, python_poll_s=0, slide_s=0, tile_s=1, result_mb=0, start_s=0,
)  # fmt: skip
SOMETHING = ServiceTimes(
    claim_s=0.01, hashed_s=0.02, record_s=0.07, python_s=0.3, draw_s=0.5, driver_s=0.1,
    driver_poll_s=0.01, python_poll_s=0.02, hash_mb_s=500, slide_s=0.4, tile_s=0.1, result_mb=8,
    start_s=5,
)  # fmt: skip


def erlang_c(servers: int, load: float) -> float:
    """Return the probability that an arrival waits in M/M/c, with a load in erlangs."""
    blocked = 1.0
    for number in range(1, servers + 1):
        blocked = load * blocked / (number + load * blocked)
    return servers * blocked / (servers - load * (1 - blocked))


def waiting(servers: int, load: float, variation: float) -> tuple[float, float]:
    """Return how long slides wait for engines, and four standard errors of that.

    A service takes a second on average, and slides arrive at random.
    """
    site = Site(nodes=servers, slides_an_engine=1)
    archive = Archive(10_000, tiles=1, tiles_variation=variation, every_s=1 / load)
    found = [Simulation(NOTHING, site, archive, seed=seed).run().waited_s for seed in range(10)]
    return statistics.mean(found), 4 * statistics.stdev(found) / math.sqrt(len(found))


@pytest.mark.slow
@pytest.mark.parametrize(("servers", "load"), [(1, 0.7), (6, 4.5)])
def test_slides_wait_for_engines_as_erlang_found(servers, load):
    expected = erlang_c(servers, load) / (servers - load)
    found, error = waiting(servers, load, 1.0)
    assert error < 0.2 * expected
    assert found == pytest.approx(expected, abs=error)


@pytest.mark.slow
@pytest.mark.parametrize("variation", [0.0, 0.5])
def test_slides_wait_for_one_engine_as_pollaczek_and_khinchine_found(variation):
    expected = 0.7 * (1 + variation**2) / 2 / (1 - 0.7)
    found, error = waiting(1, 0.7, variation)
    assert error < 0.2 * expected
    assert found == pytest.approx(expected, abs=error)


def test_one_place_and_times_without_variation_take_the_sum_of_all_steps():
    site = Site(
        nodes=1, slides_an_engine=1, storage_mb_s=200, owner_mb_s=100, node_mb_s=50, owner_cpus=1
    )
    archive = Archive(7, tiles=12, tiles_variation=0, size_mb=300, size_variation=0)
    owner = 0.01 + 0.02 + 8 / 100 + 0.1 + 0.3 + 0.5 + 0.07
    node = max(300 / 50, 0.4 + 12 * 0.1)  # a file is read beside its tiles
    owner += 2 * node * (0.01 + 0.02)
    found = Simulation(SOMETHING, site, archive).run()
    assert found.seconds == pytest.approx(7 * (owner + node))
    assert found.busy["database"] == pytest.approx(0.1 / (owner + node))


def test_engines_that_never_rest_take_the_sum_of_their_slides():
    site = Site(nodes=3, engines=2, slides_an_engine=2)
    archive = Archive(60, tiles=50, tiles_variation=0)
    found = Simulation(NOTHING, site, archive).run()
    assert found.seconds == pytest.approx(60 * 50 / 6)
    assert found.busy["engines"] == pytest.approx(1)


def test_engines_of_one_machine_share_its_cores():
    archive = Archive(60, tiles=10, tiles_variation=0)
    three = Site(nodes=1, engines=3, shared_cpus=2.0)
    assert Simulation(NOTHING, three, archive).run().seconds == pytest.approx(60 * 10 / 2)


SITES = st.builds(
    Site,
    nodes=st.integers(1, 6),
    engines=st.integers(1, 2),
    slides_an_engine=st.integers(1, 3),
    most_slides=st.integers(1, 40),
    owner_cpus=st.integers(1, 4),
    storage_mb_s=st.sampled_from([math.inf, 1000.0, 50.0]),
    owner_mb_s=st.sampled_from([math.inf, 1000.0, 100.0]),
    node_mb_s=st.sampled_from([math.inf, 100.0]),
)
LOSSES = st.builds(
    Losses,
    every_s=st.sampled_from([math.inf, 1000.0, 60.0]),
    noticed_s=st.floats(0, 5),
    back_s=st.floats(0, 30),
)


@settings(max_examples=25)
@given(SITES, LOSSES, st.integers(0, 2**32))
def test_every_slide_has_one_result_and_no_part_did_more_than_it_can(site, losses, seed):
    archive = Archive(30, tiles=20, size_mb=100)
    found = Simulation(SOMETHING, site, archive, losses, seed=seed).run()
    assert (found.slides, found.recorded_twice) == (30, 0)
    assert all(0 <= share <= 1 + 1e-9 for share in found.busy.values())
    assert found.lost == 0 or math.isfinite(losses.every_s)
    alone = replace(archive, tiles_variation=0, size_variation=0)
    without = Simulation(SOMETHING, site, alone, seed=seed).run()
    most = min(most_slides_an_hour(SOMETHING, site, alone).values())
    assert without.slides_an_hour <= most * (1 + 1e-9)


def test_a_run_is_repeated_by_its_seed():
    def found(seed: int) -> Found:
        site = Site(nodes=4, storage_mb_s=200)
        archive = Archive(50, tiles=20, size_mb=100)
        return Simulation(SOMETHING, site, archive, Losses(every_s=60), seed=seed).run()

    assert found(1) == found(1) != found(2)
    assert found(1).lost > 0


def test_the_part_that_is_always_busy_limits_the_site():
    archive = Archive(400, tiles=0, tiles_variation=0)
    site = Site(nodes=64)
    times = replace(SOMETHING, python_s=0.01, driver_poll_s=0, python_poll_s=0)
    found = Simulation(times, site, archive).run()
    assert found.limit in ("database", "driver process")
    assert found.slides_an_hour == pytest.approx(3600 / 0.1, rel=0.1)
