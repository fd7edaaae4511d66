"""CUDA graphs, asked of the driver itself: PyCUDA has no call for them.

Neither PyCUDA 2026.1 nor any release before has one (its pull request 343 is open since 2022). What
PyCUDA hands out are the driver's own objects, a stream's `handle` is a CUstream, so the driver's
calls take them as they are, in whatever context is current: here the shared primary one.

What makes that safe is who else uses the context meanwhile. A call that waits for the whole
context fails while any stream of it is captured, and ends the capture; so captures are made when an
engine is opened and nobody has it yet, and in the driver's thread-local mode, which leaves other
threads' allocations alone. Streams are made non-blocking, so that another library's work on the
legacy stream is not tied to the captured one.

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
    """The driver with the calls that graphs take (CUDA 11.4 and later).

    Raises:
        NotCapturableError: it cannot be loaded or lacks one of them.
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
    """What `work` gives to `stream`, a CUstream, as a graph.

    Raises:
        NotCapturableError: `work` failed meanwhile, recorded nothing, or the driver refused.
    """
    graph = _HANDLE()
    try:
        _record(driver, stream, work, graph)
        nodes = ctypes.c_size_t()
        _ask(driver.cuGraphGetNodes(graph, None, ctypes.byref(nodes)), "count the graph's nodes")
        if nodes.value == 0:
            raise NotCapturableError("Nothing was captured.")
        executable = _HANDLE()
        status = driver.cuGraphInstantiateWithFlags(ctypes.byref(executable), graph, 0)
        _ask(status, "instantiate the graph")
    finally:
        if graph.value:
            driver.cuGraphDestroy(graph)
    return DriverGraph(driver, executable)


def _record(driver: Any, stream: int, work: Callable[[], None], graph: ctypes.c_void_p) -> None:
    """Fill in `graph`. Whatever happens, the stream leaves capture mode."""
    _ask(driver.cuStreamBeginCapture_v2(stream, _THREAD_LOCAL), "begin to capture")
    try:
        work()
    except DeviceLostError:
        raise
    except EngineError as error:
        raise NotCapturableError(f"It cannot be captured: {error}") from error
    finally:
        ended = driver.cuStreamEndCapture(stream, ctypes.byref(graph))
    _ask(ended, "end the capture")


class DriverGraph:
    """An executable graph (CUgraphExec)."""

    def __init__(self, driver: Any, executable: ctypes.c_void_p) -> None:
        self._driver = driver
        self._executable: ctypes.c_void_p | None = executable

    def launch(self, stream: int) -> None:
        """Give it to `stream`, a CUstream. Raises DeviceOutOfMemoryError, EngineError."""
        status = self._driver.cuGraphLaunch(self._executable, stream)
        if status == _OUT_OF_MEMORY:
            raise DeviceOutOfMemoryError("The GPU is out of memory: a CUDA graph has no room.")
        if status != 0:
            raise EngineError(f"The NVIDIA driver cannot launch a graph: CUDA error {status}.")

    def free(self) -> int:
        """Destroy it; CUDA's status. Harmless if repeated."""
        executable, self._executable = self._executable, None
        return 0 if executable is None else int(self._driver.cuGraphExecDestroy(executable))


def _ask(status: int, what: str) -> None:
    if status != 0:
        raise NotCapturableError(f"The NVIDIA driver cannot {what}: CUDA error {status}.")
