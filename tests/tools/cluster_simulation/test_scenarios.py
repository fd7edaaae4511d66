"""The published curves and figures, on a small archive."""

import pytest

from tools.cluster_simulation.figures import draw_busy, draw_curves
from tools.cluster_simulation.measure import measured
from tools.cluster_simulation.model import Archive, most_slides_an_hour
from tools.cluster_simulation.scenarios import BY_THE_DAEMON, NODES, SCENARIOS, Point, point
from tools.cluster_simulation.simulation import Simulation
from tools.cluster_simulation.validate import simulated

SLIDES = 300


@pytest.fixture(scope="module")
def points() -> list[Point]:
    return [point(BY_THE_DAEMON, measured(), SLIDES, nodes, seed=1) for nodes in (1, 64)]


def test_all_times_that_were_measured_are_there():
    times = measured()
    assert 0 < times.claim_s < times.record_s < times.tile_s
    assert 2 < times.result_mb < 8.4  # at most two megapixels, of three bytes and one


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_one_node_of_each_scenario_is_as_fast_as_what_limits_it(scenario):
    times = measured()
    found = point(scenario, times, SLIDES, 1, seed=1).found
    archive = scenario.archive(SLIDES)
    most = min(most_slides_an_hour(scenario.times(times), scenario.site(1), archive).values())
    assert 0.5 * most < found.slides_an_hour < 1.2 * most  # of few slides with as many tiles


def test_the_figures_are_the_same_for_the_same_numbers(points, tmp_path):
    curve = [points[0]] * 3 + [points[1]] * (len(NODES) - 3)
    for name in ("a.svg", "b.svg"):
        draw_curves([curve, curve], tmp_path / f"curves-{name}")
        draw_busy(curve, tmp_path / f"busy-{name}")
    for kind in ("curves", "busy"):
        texts = [(tmp_path / f"{kind}-{name}").read_text() for name in ("a.svg", "b.svg")]
        assert texts[0] == texts[1]
        assert len(texts[0]) < 60_000
    assert "slides an hour" in (tmp_path / "curves-a.svg").read_text()


def test_actors_beyond_the_cores_of_one_machine_add_nothing(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    one, two, three = (simulated(measured(), actors, 40) for actors in (1, 2, 3))
    assert two > 1.6 * one
    assert three == pytest.approx(two, rel=0.15)


def test_slides_that_come_more_slowly_than_they_are_scored_do_not_wait():
    scenario = SCENARIOS[0]
    times = scenario.times(measured())
    archive = Archive(SLIDES, tiles=200, every_s=60)
    assert Simulation(times, scenario.site(4), archive).run().waited_s < 1
