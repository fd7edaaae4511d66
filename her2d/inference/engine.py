"""What every back end gives: raw tiles in, counts, masks and probabilities out.

Normalisation, layout and post-processing live inside the ONNX graphs, so back ends compute the
same thing and differ only in what they run on.
"""

from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Tiles: TypeAlias = NDArray[np.uint8]
"""uint8 (N, 512, 512, 3) RGB."""


class EngineError(Exception):
    """An engine cannot be opened or failed on a batch; `str(error)` says why in one sentence."""


@dataclass(frozen=True, slots=True)
class Segmentation:
    """What the segmenter says of N tiles.

    Attributes:
        tumor_pixels: int32 (N,), pixels whose argmax is tumour.
        mask: uint8 (N, 512, 512), 1 where a pixel is tumour.
    """

    tumor_pixels: NDArray[np.int32]
    mask: NDArray[np.uint8]


class Engine(Protocol):
    """A loaded bundle's two graphs on one back end. `segment` and `classify` may run at once."""

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

    def close(self) -> None:
        """Release what the engine holds; it is not used again."""
        ...
