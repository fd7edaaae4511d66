"""Write a bundle's weights to a file that plain PyTorch modules can load without ONNX."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from her2d.bundle.loading import Bundle

_FLOAT = (np.float32,)


def write_weights(bundle: Bundle, path: Path) -> None:
    """Write the convolutions and linear layers of both graphs by name, and the normalisation.

    The graphs call the bias of a convolution into which batch normalisation was folded
    `NAME.weight_bias`; it is written as `NAME.bias`.
    """
    normalization = bundle.manifest.normalization
    np.savez(
        path,
        mean=np.array(normalization.mean, np.float32),
        std=np.array(normalization.std, np.float32),
        tile_cut=np.array(bundle.manifest.decision.tile_cut),
        **_tensors("segmenter", bundle.segmenter),
        **_tensors("classifiers", bundle.classifiers),
    )


def _tensors(part: str, graph: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for initializer in onnx.load(graph).graph.initializer:
        value = numpy_helper.to_array(initializer)
        name = initializer.name.replace(".weight_bias", ".bias")
        if value.dtype in _FLOAT and name.endswith((".weight", ".bias")):
            found[f"{part}/{name}"] = value
    return found
