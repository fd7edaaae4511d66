"""What TensorRT said, and of whom."""

import pytest

from her2d.inference.tensorrt_log import log_of


class Module:
    """A TensorRT module, as far as a logger goes."""

    class ILogger:
        ERROR, WARNING = 1, 2


def test_the_last_error_is_told_and_warnings_are_not():
    said = log_of(Module)
    assert said.last_error is None
    said.log(Module.ILogger.ERROR, "no room")
    said.log(Module.ILogger.WARNING, "slow")
    assert said.last_error == "no room"


def test_the_real_library_tells_each_of_two_loggers_its_own_errors():
    trt = pytest.importorskip("tensorrt_rtx")
    building, running = log_of(trt), log_of(trt)
    builder, runtime = trt.Builder(building), trt.Runtime(running)
    plan = builder.build_serialized_network(
        builder.create_network(0), builder.create_builder_config()
    )
    assert plan is None
    assert "output" in building.last_error
    assert running.last_error is None
    said_before = building.last_error
    assert runtime.deserialize_cuda_engine(b"no plan") is None
    assert running.last_error is not None
    assert building.last_error == said_before
