"""The colour bundle's networks as CUDA kernels, to test the runtime without TensorRT."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from her2d.inference.cuda.device import DeviceOutOfMemoryError, Span, Stream
from her2d.inference.cuda.pycuda_device import address, handle

SOURCE = Path(__file__).with_name("colours.cu")
_THREADS = 256


class KernelNetwork:
    """One kernel of `colours.cu`; a device must be current at every call.

    Args:
        outputs: names of the kernel's pointers after the tiles, in the order of its parameters.
        room_for: largest batch; more tiles are refused as by TensorRT when memory is short.
    """

    most = 64

    def __init__(self, kernel: str, outputs: tuple[str, ...], room_for: int = 64) -> None:
        from pycuda.compiler import SourceModule

        self.batches: list[int] = []
        self._module: Any = SourceModule(SOURCE.read_text(), no_extern_c=True)
        self._kernel: Any = self._module.get_function(kernel).prepare("P" * (1 + len(outputs)))
        self._outputs = outputs
        self._room_for = room_for

    def enqueue(self, tiles: int, tensors: Mapping[str, Span], stream: Stream) -> None:
        if tiles > self._room_for:
            raise DeviceOutOfMemoryError("The GPU is out of memory.")
        pointers = [address(tensors[name]) for name in ("tiles", *self._outputs)]
        self._kernel.prepared_async_call((tiles, 1), (_THREADS, 1, 1), handle(stream), *pointers)
        self.batches.append(tiles)

    def fixed(self, tiles: int, tensors: Mapping[str, Span]) -> "FixedKernelRun":
        return FixedKernelRun(self, tiles, tensors)

    def close(self) -> None:
        self._kernel = self._module = None


class FixedKernelRun:
    def __init__(self, network: KernelNetwork, tiles: int, tensors: Mapping[str, Span]) -> None:
        self._network = network
        self._tiles = tiles
        self._tensors = tensors

    def enqueue(self, stream: Stream) -> None:
        self._network.enqueue(self._tiles, self._tensors, stream)

    def free(self) -> None:
        pass
