"""Whether a failure counts against the slide or the engine."""

from her2d.inference.engine import DeviceLostError, EngineError
from her2d.processing.engine_health import EngineDownError, EngineHealth

FAILED = EngineError("CUDA out of memory.")


def test_the_first_failure_after_a_scored_slide_counts_against_its_slide():
    health = EngineHealth()
    health.worked()
    assert health.judged(FAILED) is FAILED


def test_later_failures_without_a_scored_slide_between_count_against_the_engine():
    health = EngineHealth()
    health.worked()
    health.judged(FAILED)
    found = health.judged(FAILED)
    assert isinstance(found, EngineDownError)
    assert str(found) == "CUDA out of memory."


def test_a_failure_before_the_first_scored_slide_counts_against_the_engine():
    assert isinstance(EngineHealth().judged(MemoryError()), EngineDownError)


def test_an_engine_that_does_not_recover_counts_as_a_lost_device():
    health = EngineHealth()
    health.worked()
    found = [health.judged(FAILED) for _ in range(5)]
    assert [type(error) for error in found].count(DeviceLostError) == 1
    assert "failed 5 times without scoring a slide in between" in str(found[-1])


def test_a_scored_slide_resets_the_count_of_failures():
    health = EngineHealth()
    for _ in range(20):
        health.worked()
        assert health.judged(FAILED) is FAILED
