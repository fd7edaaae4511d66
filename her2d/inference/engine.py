"""What every back end gives: raw tiles in, counts, masks and probabilities out.

Normalisation, layout and post-processing live inside the ONNX graphs, so back ends compute the
same thing and differ only in what they run on.

`segment` and `classify` take arrays and are all that most callers need. The pipeline uploads tiles
instead: a `TileBatch` is where the engine works on them, and its tumour tiles, once kept, go to the
classifiers without crossing the bus again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from her2d.errors import Her2dError

Tiles: TypeAlias = NDArray[np.uint8]
"""uint8 (N, 512, 512, 3) RGB."""

SEGMENTER_OUTPUTS = ("tumor_pixels", "mask")
CLASSIFIERS_OUTPUTS = ("p_strong",)


class EngineError(Her2dError):
    """An engine cannot be opened or failed on a batch; `str(error)` says why in one sentence."""


class DeviceLostError(EngineError):
    """The device is gone until this process ends: no later call to it can succeed."""


@dataclass(frozen=True, slots=True)
class Segmentation:
    """What the segmenter says of N tiles.

    Attributes:
        tumor_pixels: int32 (N,), pixels whose argmax is tumour.
        mask: uint8 (N, 512, 512), 1 where a pixel is tumour.
    """

    tumor_pixels: NDArray[np.int32]
    mask: NDArray[np.uint8]


class KeptTile(Protocol):
    """One tile that waits for the classifiers where they will read it."""

    def release(self) -> None:
        """Give up the tile's place; `Engine.classify_kept` does so itself. Harmless if repeated."""
        ...


class TileBatch(Protocol):
    """Tiles on their way through one engine. Release it, or what holds it is held for good."""

    def __len__(self) -> int: ...

    def segment(self) -> Segmentation:
        """Find tumour pixels. Raises EngineError."""
        ...

    def keep(self, index: int) -> KeptTile:
        """Set tile `index` aside for the classifiers; it outlives the batch. Raises EngineError."""
        ...

    def release(self) -> None:
        """Give the batch's place back; raises nothing. Harmless if repeated."""
        ...


class Engine(Protocol):
    """A loaded bundle's two graphs on one back end. Safe to call from several threads at once."""

    @property
    def backend(self) -> str:
        """The back end's name as recorded with each result, such as `onnxruntime`."""
        ...

    def segment(self, tiles: Tiles) -> Segmentation:
        """Find tumour pixels. Raises EngineError."""
        ...

    def classify(self, tiles: Tiles) -> NDArray[np.float32]:
        """p(strong) of each of the five folds, float32 (N, 5). Raises EngineError."""
        ...

    def upload(self, tiles: Sequence[NDArray[np.uint8]]) -> TileBatch:
        """Bring tiles, uint8 (512, 512, 3) each, to where the engine works. Raises EngineError."""
        ...

    def classify_kept(self, tiles: Sequence[KeptTile]) -> NDArray[np.float32]:
        """`classify` of tiles that this engine's batches kept; it releases them in any case.

        Raises EngineError.
        """
        ...

    def close(self) -> None:
        """Release what the engine holds; it is not used again."""
        ...
