"""Whom a failure of the engine is blamed on."""

from her2d.inference.engine import DeviceLostError, EngineError
from her2d.processing.engine_health import EngineDownError, EngineHealth

FAILED = EngineError("CUDA out of memory.")


def test_the_first_failure_after_a_slide_that_worked_may_be_the_slides_own():
    health = EngineHealth()
    health.worked()
    assert health.judged(FAILED) is FAILED


def test_further_failures_with_no_slide_between_are_nobodys():
    health = EngineHealth()
    health.worked()
    health.judged(FAILED)
    found = health.judged(FAILED)
    assert isinstance(found, EngineDownError)
    assert str(found) == "CUDA out of memory."


def test_before_anything_worked_no_slide_is_to_blame():
    assert isinstance(EngineHealth().judged(MemoryError()), EngineDownError)


def test_an_engine_that_never_recovers_is_given_up_with_its_process():
    health = EngineHealth()
    health.worked()
    found = [health.judged(FAILED) for _ in range(5)]
    assert [type(error) for error in found].count(DeviceLostError) == 1
    assert "failed 5 times with no slide scored between" in str(found[-1])


def test_a_slide_that_works_between_clears_the_engine():
    health = EngineHealth()
    for _ in range(20):
        health.worked()
        assert health.judged(FAILED) is FAILED
