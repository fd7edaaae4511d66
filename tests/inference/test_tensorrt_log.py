"""What TensorRT said, and to whom: it has one logger for the whole process."""

import threading

import pytest

from her2d.inference.tensorrt_log import log_of


class ILogger:
    ERROR, WARNING = 1, 2


@pytest.fixture
def said():
    said = log_of(Module(ILogger))
    said.forget()
    return said


class Module:
    """As a module: compared by what it is, not by what is in it."""

    def __init__(self, logger: type) -> None:
        self.ILogger = logger


def elsewhere(do) -> None:
    thread = threading.Thread(target=do)
    thread.start()
    thread.join()


def test_there_is_one_for_each_library():
    one, other = Module(ILogger), Module(ILogger)
    assert log_of(one) is log_of(one)
    assert log_of(one) is not log_of(other)


def test_the_last_error_is_told_and_warnings_are_not(said):
    said.log(ILogger.ERROR, "no room")
    said.log(ILogger.WARNING, "slow")
    assert said.last_error == "no room"
    said.forget()
    assert said.last_error is None


def test_what_another_lane_was_told_is_its_own_affair(said):
    def lane() -> None:
        said.forget()
        said.log(ILogger.ERROR, "out of memory")
        assert said.last_error == "out of memory"

    elsewhere(lane)
    assert said.last_error is None


def test_what_tensorrt_says_in_a_thread_of_its_own_is_heard(said):
    elsewhere(lambda: said.log(ILogger.ERROR, "a tactic failed"))
    assert said.last_error == "a tactic failed"


def test_the_real_library_says_to_it_why_a_build_failed_each_time():
    trt = pytest.importorskip("tensorrt_rtx")
    said = log_of(trt)
    for _ in range(2):
        said.forget()
        builder = trt.Builder(said)
        plan = builder.build_serialized_network(
            builder.create_network(0), builder.create_builder_config()
        )
        assert plan is None
        assert "output" in said.last_error
