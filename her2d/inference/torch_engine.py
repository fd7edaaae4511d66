"""The torch back end: the bundle's graphs on CUDA, or on the CPU as a reference.

It is for GPUs without TensorRT. This module is imported only if torch was chosen.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from her2d.bundle.loading import Bundle
from her2d.inference.engine import (
    CLASSIFIERS_OUTPUTS,
    SEGMENTER_OUTPUTS,
    DeviceLostError,
    EngineError,
    KeptTile,
    Segmentation,
    Tiles,
)
from her2d.inference.graph_files import read_graph
from her2d.inference.onnx_to_torch import GraphModule
from her2d.inference.options import BatchSizes, EngineOptions, recorded_name
from her2d.inference.separate_folds import SeparateFolds, open_separately
from her2d.method import TILE_PX
from her2d.system.cpu_share import CpuShare
from her2d.system.cpus import usable_cpus
from her2d.system.loggers import get_logger

log = get_logger(__name__)

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_WARM_UPS = 3


@dataclass(slots=True)
class TorchTile:
    """A kept tile on the device, uint8 (512, 512, 3)."""

    pixels: Tensor | None

    def release(self) -> None:
        self.pixels = None


@dataclass(slots=True)
class TorchBatch:
    """Tiles on the device, uint8 (N, 512, 512, 3), and the function that segments them."""

    tiles: Tensor | None
    size: int
    segmenter: Callable[[Tensor], Segmentation]

    def __len__(self) -> int:
        return self.size

    def segment(self) -> Segmentation:
        return self.segmenter(self._held())

    def keep(self, index: int) -> TorchTile:
        tiles = self._held()
        with _own_errors(_on(1)):
            # A view would keep the whole batch in memory for one tile.
            return TorchTile(tiles[index].clone())

    def release(self) -> None:
        self.tiles = None

    def _held(self) -> Tensor:
        if self.tiles is None:
            raise ValueError("the batch is released")
        return self.tiles


class TorchEngine:
    """Both graphs as torch modules.

    Args:
        bundle: a verified bundle.
        options: precision None is fp32.
        device: None is CUDA; `cpu` is for tests and for machines without a GPU.

    Raises:
        EngineError: there is no CUDA device, a graph cannot be loaded, or int8 is requested.
    """

    def __init__(self, bundle: Bundle, options: EngineOptions, device: str | None = None) -> None:
        precision = options.precision or "fp32"
        dtype = _DTYPES.get(precision)
        if dtype is None:
            raise EngineError(f"torch supports fp32, fp16 and bf16, not {precision}.")
        if device is None and not torch.cuda.is_available():
            raise EngineError("torch finds no CUDA device (or was built without CUDA).")
        self._backend = recorded_name("torch", precision)
        self._device = torch.device(device or "cuda")
        self._batches = BatchSizes(options.segmenter_batch, options.classifier_batch)
        self._cpus = CpuShare()
        if self._device.type == "cuda":
            # By default cuDNN rounds fp32 factors to ten bits of mantissa (TF32).
            torch.backends.cudnn.allow_tf32 = False
            torch.backends.cuda.matmul.allow_tf32 = False
        else:
            torch.set_num_threads(options.threads or usable_cpus())
        try:
            with _own_errors("to load the bundle"):
                self._load(bundle, options, dtype)
        except BaseException:
            self.close()
            raise

    def _load(self, bundle: Bundle, options: EngineOptions, dtype: torch.dtype) -> None:
        parts = bundle.her2net

        def opened(path: Path, graph: bytes, outputs: tuple[str, ...]) -> _Network:
            return _Network(path, graph, outputs, dtype, self._device)

        def open_classifiers(graph: bytes) -> _Network:
            return opened(bundle.classifiers, graph, CLASSIFIERS_OUTPUTS)

        segmenter = read_graph(bundle.segmenter, parts.segmenter.sha256)
        self._segmenter = opened(bundle.segmenter, segmenter, SEGMENTER_OUTPUTS)
        classifiers = read_graph(bundle.classifiers, parts.classifiers.sha256)
        joined = open_classifiers(classifiers)
        self._folds: SeparateFolds[_Network] = SeparateFolds()
        if options.separate_folds:
            self._folds = open_separately(classifiers, joined, open_classifiers, self._p_strong)
        # Their weights are not held twice.
        self._classifiers = self._folds.networks or (joined,)
        del joined
        if self._device.type == "cuda" and options.cuda_graphs:
            # Only after all weights are loaded, and while no other thread uses the device: torch
            # captures every graph on the same stream.
            self._segmenter.capture(options.segmenter_batch)
            for network in self._classifiers:
                network.capture(options.classifier_batch)

    @property
    def backend(self) -> str:
        return self._backend

    @property
    def batches(self) -> BatchSizes:
        return self._batches

    @property
    def cpus(self) -> CpuShare:
        return self._cpus

    def segment(self, tiles: Tiles) -> Segmentation:
        return self._segment(self._to_device(tiles))

    def classify(self, tiles: Tiles) -> NDArray[np.float32]:
        return self._classify(self._to_device(tiles))

    def upload(self, tiles: Sequence[NDArray[np.uint8]]) -> TorchBatch:
        return TorchBatch(self._to_device(np.stack(tiles)), len(tiles), self._segment)

    def classify_kept(self, tiles: Sequence[KeptTile]) -> NDArray[np.float32]:
        try:
            with _own_errors(_on(len(tiles))):
                kept = torch.stack([_pixels(tile) for tile in tiles])
        finally:
            for tile in tiles:
                tile.release()
        return self._classify(kept)

    def separate_folds_problem(self, full_batch: int) -> str | None:
        return self._folds.problem_for(full_batch)

    def classify_fold(self, tiles: Sequence[KeptTile], fold: int) -> NDArray[np.float32]:
        if self._folds.problem is not None:
            raise EngineError(self._folds.problem)
        with _own_errors(_on(len(tiles))):
            kept = torch.stack([_pixels(tile) for tile in tiles])
        return self._classified(self._folds.networks[fold], kept)[:, 0]

    def close(self) -> None:
        for network in ("_segmenter", "_classifiers", "_folds"):
            # If loading failed, they may not exist.
            self.__dict__.pop(network, None)
        if self._device.type == "cuda":
            try:
                torch.cuda.empty_cache()
            except torch.AcceleratorError as error:
                # A lost device gets its memory back when the process ends.
                log.warning("device_not_released", reason=str(error))

    def _to_device(self, tiles: Tiles) -> Tensor:
        with _own_errors(_on(len(tiles))):
            return torch.from_numpy(tiles).to(self._device)

    def _segment(self, tiles: Tensor) -> Segmentation:
        found = self._segmenter(tiles)
        return Segmentation(found["tumor_pixels"].numpy(), found["mask"].numpy())

    def _classify(self, tiles: Tensor) -> NDArray[np.float32]:
        parts = [self._classified(network, tiles) for network in self._classifiers]
        return np.concatenate(parts, axis=1)

    def _p_strong(self, network: "_Network", tiles: Tiles) -> NDArray[np.float32]:
        return self._classified(network, self._to_device(tiles))

    @staticmethod
    def _classified(network: "_Network", tiles: Tensor) -> NDArray[np.float32]:
        p_strong: NDArray[np.float32] = network(tiles)["p_strong"].float().numpy()
        return p_strong


def _pixels(tile: KeptTile) -> Tensor:
    if not isinstance(tile, TorchTile) or tile.pixels is None:
        raise TypeError("the tile was kept by another engine, or is released")
    return tile.pixels


@contextmanager
def _own_errors(doing: str) -> Iterator[None]:
    """Raise torch's errors as EngineError, or as DeviceLostError if CUDA cannot recover."""
    try:
        yield
    except EngineError:
        raise
    except torch.AcceleratorError as error:
        _raise_if_lost(error)
        raise EngineError(f"torch failed {doing}: {error}") from error
    except Exception as error:
        raise EngineError(f"torch failed {doing}: {error}") from error


def _raise_if_lost(error: torch.AcceleratorError) -> None:
    """Raise DeviceLostError if CUDA repeats the error, which then only a new process ends."""
    try:
        torch.cuda.synchronize()
    except torch.AcceleratorError as again:
        raise DeviceLostError(f"torch lost the CUDA device: {again}") from error


def _on(tiles: int) -> str:
    return f"on a batch of {tiles} tiles"


class _Network:
    """One graph on one device, run by one thread at a time.

    After `capture`, full batches on CUDA are replayed as a CUDA graph.
    """

    def __init__(
        self,
        path: Path,
        graph: bytes,
        outputs: tuple[str, ...],
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self._name = path.stem
        # On the CPU all memory stays contiguous, because oneDNN of torch 2.13 corrupts memory in
        # some channels-last convolutions.
        layout = torch.channels_last if device.type == "cuda" else torch.contiguous_format
        self._module = GraphModule(graph, path, dtype, layout).eval().to(device)
        if missing := set(outputs) - set(self._module.outputs):
            raise EngineError(f"{path} lacks the output {', '.join(sorted(missing))}.")
        self._device = device
        self._captured: _Captured | None = None
        self._one_at_a_time = threading.Lock()

    def __call__(self, tiles: Tensor) -> dict[str, Tensor]:
        """Compute the outputs, by name and in host memory. Raises EngineError, DeviceLostError."""
        with _own_errors(_on(len(tiles))), self._one_at_a_time, torch.inference_mode():
            return dict(zip(self._module.outputs, self._halving(tiles), strict=True))

    def _halving(self, tiles: Tensor) -> list[Tensor]:
        try:
            return [output.cpu() for output in self._run(tiles)]
        except torch.OutOfMemoryError:
            if len(tiles) == 1:
                raise
        # Outside the handler, because its traceback would keep the failed attempt's memory alive.
        torch.cuda.empty_cache()
        half = len(tiles) // 2
        parts = (self._halving(tiles[:half]), self._halving(tiles[half:]))
        return [torch.cat(pair) for pair in zip(*parts, strict=True)]

    def _run(self, tiles: Tensor) -> tuple[Tensor, ...]:
        if self._captured is not None and len(tiles) == self._captured.tiles:
            return self._captured(tiles)
        found: tuple[Tensor, ...] = self._module(tiles)
        return found

    def capture(self, full_batch: int) -> None:
        """Capture a CUDA graph that replays batches of `full_batch` tiles, if memory allows.

        Raises:
            RuntimeError: the batch cannot be captured; torch's allocator is unreliable afterwards.
        """
        shape = (full_batch, TILE_PX, TILE_PX, 3)
        try:
            with torch.inference_mode():
                example = torch.zeros(shape, dtype=torch.uint8, device=self._device)
                self._captured = _Captured(self._module, example)
            return
        except torch.OutOfMemoryError as error:
            log.info("cuda_graph_not_used", network=self._name, reason=str(error))
        # Outside the handler, because its traceback would keep the failed attempt's memory alive.
        torch.cuda.empty_cache()


class _Captured:
    """A full batch's kernels as one CUDA graph; its outputs are valid until the next call.

    Attributes:
        tiles: number of tiles in the batch.
    """

    def __init__(self, module: GraphModule, example: Tensor) -> None:
        self.tiles = len(example)
        self._input = example.clone()
        warming = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        warming.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(warming):
            for _ in range(_WARM_UPS):
                module(self._input)
        torch.cuda.current_stream().wait_stream(warming)
        self._graph = torch.cuda.CUDAGraph()
        # Threads of other libraries may use CUDA meanwhile; capture only this thread's calls.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._outputs: tuple[Tensor, ...] = module(self._input)

    def __call__(self, tiles: Tensor) -> tuple[Tensor, ...]:
        self._input.copy_(tiles)
        self._graph.replay()
        return self._outputs
