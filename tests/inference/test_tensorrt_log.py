"""TensorRT's errors, each kept by the logger of the object that failed."""

import pytest

from her2d.inference.tensorrt_log import log_of


class Module:
    """A test double of a TensorRT module, with the parts that a logger needs."""

    class ILogger:
        ERROR, WARNING = 1, 2


def test_the_last_error_is_kept_and_warnings_are_not():
    logger = log_of(Module)
    assert logger.last_error is None
    logger.log(Module.ILogger.ERROR, "no room")
    logger.log(Module.ILogger.WARNING, "slow")
    assert logger.last_error == "no room"


def test_the_real_library_gives_each_of_two_loggers_only_its_own_errors():
    trt = pytest.importorskip("tensorrt_rtx")
    building, running = log_of(trt), log_of(trt)
    builder, runtime = trt.Builder(building), trt.Runtime(running)
    plan = builder.build_serialized_network(
        builder.create_network(0), builder.create_builder_config()
    )
    assert plan is None
    assert "output" in building.last_error
    assert running.last_error is None
    error_before = building.last_error
    assert runtime.deserialize_cuda_engine(b"not a plan") is None
    assert running.last_error is not None
    assert building.last_error == error_before
