"""CUDA graphs by the driver's own calls, because PyCUDA has none.

PyCUDA up to 2026.1 cannot capture graphs (its pull request 343 has been open since 2022). Its
objects wrap the driver's: a stream's `handle` is a CUstream, so the driver's calls accept it. They
work in the current context, which here is the shared primary one.

A call that waits for the whole context fails while any of its streams is being captured, and ends
the capture. So graphs are captured while an engine is being opened, before any thread uses it, and
in the driver's thread-local mode, which does not affect other threads' allocations. Streams are
non-blocking, so that another library's work on the legacy stream is not tied to the captured one.

This has never run on real hardware. `NetworkRunner.capture` therefore rejects every graph whose
output differs from the plain run's.
"""

import ctypes
from collections.abc import Callable
from typing import Any

from her2d.inference.cuda.device import DeviceOutOfMemoryError, NotCapturableError
from her2d.inference.engine import DeviceLostError, EngineError

_LIBRARY = "libcuda.so.1"
_THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
_OUT_OF_MEMORY = 2  # CUDA_ERROR_OUT_OF_MEMORY
_HANDLE = ctypes.c_void_p
_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cuStreamBeginCapture_v2": (_HANDLE, ctypes.c_int),
    "cuStreamEndCapture": (_HANDLE, ctypes.POINTER(_HANDLE)),
    "cuGraphGetNodes": (_HANDLE, ctypes.c_void_p, ctypes.POINTER(ctypes.c_size_t)),
    "cuGraphInstantiateWithFlags": (ctypes.POINTER(_HANDLE), _HANDLE, ctypes.c_ulonglong),
    "cuGraphLaunch": (_HANDLE, _HANDLE),
    "cuGraphExecDestroy": (_HANDLE,),
    "cuGraphDestroy": (_HANDLE,),
}


def load_driver(library: str = _LIBRARY) -> Any:
    """Load the driver and declare the calls that graphs need (CUDA 11.4 and later).

    Args:
        library: name of the driver's shared library.

    Raises:
        NotCapturableError: the library cannot be loaded or lacks one of the calls.
    """
    try:
        driver = ctypes.CDLL(library)
        for name, arguments in _SIGNATURES.items():
            call = getattr(driver, name)
            call.argtypes, call.restype = arguments, ctypes.c_int
    except (OSError, AttributeError) as error:
        raise NotCapturableError(f"The NVIDIA driver has no CUDA graphs: {error}") from error
    return driver


def capture(driver: Any, stream: int, work: Callable[[], None]) -> "DriverGraph":
    """Capture what `work` enqueues on `stream`, a CUstream, as a graph.

    Raises:
        DeviceLostError: the device was lost during the capture.
        NotCapturableError: `work` failed or enqueued nothing, or the driver refused.
    """
    graph = _HANDLE()
    try:
        _record(driver, stream, work, graph)
        nodes = ctypes.c_size_t()
        _require_success(
            driver.cuGraphGetNodes(graph, None, ctypes.byref(nodes)), "count the graph's nodes"
        )
        if nodes.value == 0:
            raise NotCapturableError("Nothing was captured.")
        executable = _HANDLE()
        status = driver.cuGraphInstantiateWithFlags(ctypes.byref(executable), graph, 0)
        _require_success(status, "instantiate the graph")
    finally:
        if graph.value:
            driver.cuGraphDestroy(graph)
    return DriverGraph(driver, executable)


def _record(driver: Any, stream: int, work: Callable[[], None], graph: ctypes.c_void_p) -> None:
    """Record `work` into `graph`. In every case the stream leaves capture mode."""
    _require_success(driver.cuStreamBeginCapture_v2(stream, _THREAD_LOCAL), "begin to capture")
    try:
        work()
    except DeviceLostError:
        raise
    except EngineError as error:
        raise NotCapturableError(f"The work cannot be captured: {error}") from error
    finally:
        ended = driver.cuStreamEndCapture(stream, ctypes.byref(graph))
    _require_success(ended, "end the capture")


class DriverGraph:
    """An executable graph (CUgraphExec)."""

    def __init__(self, driver: Any, executable: ctypes.c_void_p) -> None:
        self._driver = driver
        self._executable: ctypes.c_void_p | None = executable

    def launch(self, stream: int) -> None:
        """Launch the graph on `stream`, a CUstream. Raises DeviceOutOfMemoryError, EngineError."""
        status = self._driver.cuGraphLaunch(self._executable, stream)
        if status == _OUT_OF_MEMORY:
            raise DeviceOutOfMemoryError("The GPU is out of memory: a CUDA graph has no room.")
        if status != 0:
            raise EngineError(f"The NVIDIA driver cannot launch a graph: CUDA error {status}.")

    def free(self) -> int:
        """Destroy the graph and return CUDA's status, 0 for success. Harmless if repeated."""
        executable, self._executable = self._executable, None
        return 0 if executable is None else int(self._driver.cuGraphExecDestroy(executable))


def _require_success(status: int, what: str) -> None:
    if status != 0:
        raise NotCapturableError(f"The NVIDIA driver cannot {what}: CUDA error {status}.")
