"""Both networks on one device; each tile crosses the bus once.

Uploads, segmentation and classification have a stream each, so that they overlap when their
threads do: while one batch is segmented, the next is uploaded and kept tiles are classified.
"""

import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from her2d.inference.cuda.buffer_pool import BufferPool, TileSlot, UploadSlot
from her2d.inference.cuda.device import Device, Network, Span, Stream, freed_by
from her2d.inference.cuda.network_runner import TILE_BYTES, NetworkRunner, Output
from her2d.inference.engine import EngineError, KeptTile, Segmentation, Tiles
from her2d.inference.options import BatchSizes
from her2d.method import FOLDS, TILE_PX
from her2d.system.cpu_share import CpuShare
from her2d.system.loggers import get_logger

log = get_logger(__name__)

_SEGMENTER_OUTPUTS = (Output("tumor_pixels", 4), Output("mask", TILE_PX * TILE_PX))
_CLASSIFIERS_OUTPUTS = (Output("p_strong", 4 * FOLDS),)
# One being filled, one being uploaded, one being segmented.
_UPLOAD_SLOTS = 3


@dataclass(frozen=True, slots=True)
class Batches:
    """Sizes in tiles.

    Attributes:
        segmenter, classifiers: largest batch of each network.
        kept: most kept tiles that may wait for the classifiers.
    """

    segmenter: int
    classifiers: int
    kept: int


class CudaEngine:
    """An engine of two networks on one CUDA device.

    It closes device and networks when it is closed, and also where it cannot be opened.

    Args:
        device: where both networks were loaded.
        segmenter, classifiers: the networks.
        batches: sizes of the buffers. A batch for which a network lacks memory is run in halves.
        backend: the back end's name as recorded with each result.

    Raises:
        DeviceOutOfMemoryError: the buffers do not fit.
    """

    def __init__(
        self,
        device: Device,
        segmenter: Network,
        classifiers: Network,
        batches: Batches,
        *,
        backend: str,
    ) -> None:
        self._backend = backend
        self._device = device
        self._cpus = CpuShare()
        self._networks = (segmenter, classifiers)
        self._resources = ExitStack()
        self._streams: list[Stream] = []
        self._closed = False
        self._segmenting = threading.Lock()
        self._classifying = threading.Lock()
        try:
            with device.current():
                try:
                    self._allocate(batches)
                except BaseException:
                    self._free()
                    raise
        except BaseException:
            self._close_device()
            raise

    @property
    def backend(self) -> str:
        return self._backend

    @property
    def batches(self) -> BatchSizes:
        return BatchSizes(self._batches.segmenter, self._batches.classifiers)

    @property
    def cpus(self) -> CpuShare:
        return self._cpus

    def segment(self, tiles: Tiles) -> Segmentation:
        most = self._batches.segmenter
        parts = [self._segment_alone(tiles[at : at + most]) for at in range(0, len(tiles), most)]
        return Segmentation(
            np.concatenate([part.tumor_pixels for part in parts]),
            np.concatenate([part.mask for part in parts]),
        )

    def classify(self, tiles: Tiles) -> NDArray[np.float32]:
        most = min(self._batches.segmenter, self._batches.classifiers)
        parts = [self._classify_alone(tiles[at : at + most]) for at in range(0, len(tiles), most)]
        return np.concatenate(parts)

    def upload(self, tiles: Sequence[NDArray[np.uint8]]) -> "CudaBatch":
        most = self._batches.segmenter
        misshapen = any(
            tile.shape != (TILE_PX, TILE_PX, 3) or tile.dtype != np.uint8 for tile in tiles
        )
        if misshapen or len(tiles) > most:
            raise EngineError(
                f"{self._backend} failed on a batch of {len(tiles)} tiles: it takes up to {most} of"
                " uint8 (512, 512, 3)."
            )
        slot = self._upload_slots.take()
        try:
            with self._device.current():
                slot.fill(tiles)
        except BaseException:
            self._upload_slots.give_back(slot)
            raise
        return CudaBatch(self, slot, len(tiles))

    def classify_kept(self, tiles: Sequence[KeptTile]) -> NDArray[np.float32]:
        try:
            with self._classifying, self._device.current():
                return self._classify(tiles)
        finally:
            for tile in tiles:
                tile.release()

    def separate_folds_problem(self, full_batch: int) -> str | None:
        return f"{self._backend} runs the five sub-classifiers as one compiled network."

    def classify_fold(self, tiles: Sequence[KeptTile], fold: int) -> NDArray[np.float32]:
        raise EngineError(f"{self._backend} runs the five sub-classifiers as one compiled network.")

    def close(self) -> None:
        self._upload_slots.close()
        self._tile_slots.close()
        with self._segmenting, self._classifying:
            if self._closed:
                return
            self._closed = True
            try:
                try:
                    with self._device.current():
                        self._free()
                finally:
                    self._close_device()
            except EngineError as error:
                # A lost device gets its memory back when the process ends.
                log.warning("device_not_released", reason=str(error))

    def segment_slot(self, slot: UploadSlot, tiles: int) -> Segmentation:
        """Segment the first `tiles` tiles of an upload slot. Raises EngineError."""
        with self._segmenting, self._device.current():
            slot.wait_uploaded(self._segmenter.stream)
            found = self._segmenter.run(tiles, Span(slot.buffer))
        masks = found["mask"].reshape(tiles, TILE_PX, TILE_PX)
        return Segmentation(found["tumor_pixels"].view(np.int32), masks)

    def keep_from(self, slot: UploadSlot, index: int) -> "CudaTile":
        """Copy tile `index` of an upload slot into a slot for kept tiles. Raises EngineError."""
        kept = self._tile_slots.take()
        try:
            with self._segmenting, self._device.current():
                slot.wait_uploaded(self._segmenter.stream)
                source = Span(slot.buffer, index * TILE_BYTES)
                kept.fill(source, self._segmenter.stream)
        except BaseException:
            self._tile_slots.give_back(kept)
            raise
        return CudaTile(self._tile_slots, kept)

    def release_slot(self, slot: UploadSlot) -> None:
        """Give an upload slot back; a device error is logged and meets the slot's next user."""
        try:
            with self._segmenting:
                if not self._closed:
                    with self._device.current():
                        slot.mark_read(self._segmenter.stream)
        except EngineError as error:
            log.warning("slot_not_marked_as_read", reason=str(error))
        finally:
            self._upload_slots.give_back(slot)

    def _segment_alone(self, tiles: Tiles) -> Segmentation:
        batch = self.upload(list(tiles))
        try:
            return batch.segment()
        finally:
            batch.release()

    def _classify_alone(self, tiles: Tiles) -> NDArray[np.float32]:
        kept: list[KeptTile] = []
        batch = self.upload(list(tiles))
        try:
            kept.extend(batch.keep(index) for index in range(len(tiles)))
        except BaseException:
            for tile in kept:
                tile.release()
            raise
        finally:
            batch.release()
        return self.classify_kept(kept)

    def _classify(self, tiles: Sequence[KeptTile]) -> NDArray[np.float32]:
        if len(tiles) > self._batches.classifiers:
            raise EngineError(
                f"{self._backend} failed on a batch of {len(tiles)} tiles: its classifiers take up"
                f" to {self._batches.classifiers}."
            )
        stream = self._classifiers.stream
        for number, tile in enumerate(tiles):
            if not isinstance(tile, CudaTile) or tile.slot is None:
                raise TypeError("the tile was kept by another engine, or is released")
            tile.slot.copy_to(Span(self._gathered, number * TILE_BYTES), stream)
        found = self._classifiers.run(len(tiles), Span(self._gathered))
        return found["p_strong"].view(np.float32).reshape(-1, FOLDS)

    def _allocate(self, batches: Batches) -> None:
        stack, device = self._resources, self._device
        segmenter, classifiers = self._networks
        self._batches = batches
        self._finished = freed_by(stack, device.event())
        copying = freed_by(stack, device.stream())
        self._segmenter = freed_by(
            stack,
            NetworkRunner(device, segmenter, _SEGMENTER_OUTPUTS, batches.segmenter, "segmenter"),
        )
        self._classifiers = freed_by(
            stack,
            NetworkRunner(
                device, classifiers, _CLASSIFIERS_OUTPUTS, batches.classifiers, "classifiers"
            ),
        )
        self._streams += [copying, self._segmenter.stream, self._classifiers.stream]
        self._gathered = freed_by(stack, device.allocate(batches.classifiers * TILE_BYTES))
        kept = max(batches.kept, batches.segmenter + batches.classifiers)
        pool = freed_by(stack, device.allocate(kept * TILE_BYTES))
        upload_slots = [
            freed_by(stack, UploadSlot(device, batches.segmenter, copying))
            for _ in range(_UPLOAD_SLOTS)
        ]
        self._capture_graphs(upload_slots)
        self._upload_slots = BufferPool(upload_slots)
        self._tile_slots = BufferPool(
            [freed_by(stack, TileSlot(device, Span(pool, i * TILE_BYTES))) for i in range(kept)]
        )

    def _capture_graphs(self, slots: Sequence[UploadSlot]) -> None:
        """Capture full batches of each upload slot and of gathered kept tiles.

        The graphs are compared on noise, on which no two tiles give the same outputs.
        """
        shape = (self._batches.segmenter, TILE_PX, TILE_PX, 3)
        noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        for slot in slots:
            slot.fill(list(noise))
            slot.wait_uploaded(self._segmenter.stream)
            if not self._segmenter.capture(Span(slot.buffer)):
                break
        for number in range(self._batches.classifiers):
            to = Span(self._gathered, number * TILE_BYTES)
            slots[0].copy_tile_to(number % len(noise), to, self._classifiers.stream)
        self._classifiers.capture(Span(self._gathered))

    def _free(self) -> None:
        """Free all resources, after the work of abandoned batches has ended."""
        try:
            for stream in self._streams:
                stream.record(self._finished)
                self._finished.synchronize()
        finally:
            self._resources.close()

    def _close_device(self) -> None:
        with self._device.current():
            for network in self._networks:
                network.close()
        self._device.close()


class CudaTile:
    """A kept tile; it occupies a slot of the pool until it is released."""

    def __init__(self, pool: BufferPool[TileSlot], slot: TileSlot) -> None:
        self.slot: TileSlot | None = slot
        self._pool = pool

    def release(self) -> None:
        slot, self.slot = self.slot, None
        if slot is not None:
            self._pool.give_back(slot)


class CudaBatch:
    """Uploaded tiles; they occupy an upload slot until the batch is released."""

    def __init__(self, engine: CudaEngine, slot: UploadSlot, tiles: int) -> None:
        self._engine = engine
        self._slot: UploadSlot | None = slot
        self._tiles = tiles

    def __len__(self) -> int:
        return self._tiles

    def segment(self) -> Segmentation:
        return self._engine.segment_slot(self._held(), self._tiles)

    def keep(self, index: int) -> CudaTile:
        return self._engine.keep_from(self._held(), index)

    def release(self) -> None:
        slot, self._slot = self._slot, None
        if slot is not None:
            self._engine.release_slot(slot)

    def _held(self) -> UploadSlot:
        if self._slot is None:
            raise ValueError("the batch is released")
        return self._slot
