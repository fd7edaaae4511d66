"""Settings -> the engine that serves."""

from her2d.bundle import Bundle
from her2d.inference.engine import Engine, EngineError
from her2d.inference.onnxruntime_engine import OnnxRuntimeEngine


def open_engine(bundle: Bundle, *, backend: str, threads: int = 0) -> Engine:
    """Open `bundle` on `backend`; `auto` is the best that works here.

    Raises:
        EngineError: no such back end, or it does not work on this machine.
    """
    if backend in ("auto", "onnxruntime"):
        return OnnxRuntimeEngine(bundle, threads=threads)
    raise EngineError(f"There is no back end {backend!r}; choose auto or onnxruntime.")
