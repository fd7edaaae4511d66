"""The interface of every back end: raw tiles in; counts, masks and probabilities out.

Normalisation, layout and post-processing are part of the ONNX graphs, so all back ends compute the
same and differ only in the hardware and library that they use.

Most callers need only `segment` and `classify`, which take arrays. The pipeline uploads tiles
instead: a `TileBatch` lies in the engine's memory, and its tumour tiles, once kept, go to the
classifiers without a second upload.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from her2d.errors import Her2dError
from her2d.inference.options import BatchSizes
from her2d.system.cpu_share import CpuShare

Tiles: TypeAlias = NDArray[np.uint8]
"""uint8 (N, 512, 512, 3) RGB."""

SEGMENTER_OUTPUTS = ("tumor_pixels", "mask")
CLASSIFIERS_OUTPUTS = ("p_strong",)


class EngineError(Her2dError):
    """An engine cannot be opened or failed on a batch; `str(error)` gives the reason."""


class DeviceLostError(EngineError):
    """The device is lost to this process; no later call to it can succeed."""


@dataclass(frozen=True, slots=True)
class Segmentation:
    """The segmenter's result for N tiles.

    Attributes:
        tumor_pixels: int32 (N,), number of pixels whose most likely class is tumour.
        mask: uint8 (N, 512, 512), 1 where a pixel is tumour.
    """

    tumor_pixels: NDArray[np.int32]
    mask: NDArray[np.uint8]


class KeptTile(Protocol):
    """One tile that waits for the classifiers in the engine's memory."""

    def release(self) -> None:
        """Free the tile's memory, as `Engine.classify_kept` also does. Harmless if repeated."""
        ...


class TileBatch(Protocol):
    """Tiles in one engine's memory, which stays occupied until the batch is released."""

    def __len__(self) -> int: ...

    def segment(self) -> Segmentation:
        """Find tumour pixels. Raises EngineError."""
        ...

    def keep(self, index: int) -> KeptTile:
        """Copy tile `index` for the classifiers; it outlives the batch. Raises EngineError."""
        ...

    def release(self) -> None:
        """Free the batch's memory. Raises nothing. Harmless if repeated."""
        ...


class TileEngine(Protocol):
    """A loaded bundle on one back end, as far as every method needs it: tiles and their tumour.

    Safe to call from several threads at once.
    """

    @property
    def backend(self) -> str:
        """Name of the back end as recorded with each result, such as `onnxruntime`."""
        ...

    @property
    def batches(self) -> BatchSizes:
        """How many tiles to pass at once where the settings leave it open."""
        ...

    @property
    def cpus(self) -> CpuShare:
        """The CPUs, which the engine shares with the threads that prepare its tiles."""
        ...

    def segment(self, tiles: Tiles) -> Segmentation:
        """Find tumour pixels. Raises EngineError."""
        ...

    def upload(self, tiles: Sequence[NDArray[np.uint8]]) -> TileBatch:
        """Copy tiles, uint8 (512, 512, 3) each, into the engine's memory. Raises EngineError."""
        ...

    def close(self) -> None:
        """Release all the engine's resources; it cannot be used afterwards."""
        ...


class Engine(TileEngine, Protocol):
    """HER2Net's two graphs, the segmenter and the classifiers, on one back end."""

    def classify(self, tiles: Tiles) -> NDArray[np.float32]:
        """Compute p(strong) by each of the five folds, float32 (N, 5). Raises EngineError."""
        ...

    def classify_kept(self, tiles: Sequence[KeptTile]) -> NDArray[np.float32]:
        """Classify tiles that this engine's batches kept, and release them in every case.

        Returns:
            p(strong) by each of the five folds, float32 (N, 5).

        Raises:
            EngineError: the engine failed.
        """
        ...

    def separate_folds_problem(self, full_batch: int) -> str | None:
        """Return why `classify_fold` cannot be used, in one sentence; None if it can.

        Args:
            full_batch: the most tiles that it will be given at once.
        """
        ...

    def classify_fold(self, tiles: Sequence[KeptTile], fold: int) -> NDArray[np.float32]:
        """Classify tiles that this engine's batches kept by one sub-classifier, and keep them.

        Its numbers are those of `classify_kept`.

        Args:
            tiles: as for `classify_kept`.
            fold: number of the sub-classifier, from 0.

        Returns:
            p(strong), float32 (N,).

        Raises:
            EngineError: the engine failed, or was not opened for it.
        """
        ...
