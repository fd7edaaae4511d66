"""Write a bundle's weights to a file that plain PyTorch modules can load without ONNX."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from her2d.bundle.loading import Bundle

_LAYERS = ("Conv", "Gemm")


def write_weights(bundle: Bundle, path: Path) -> None:
    """Write the convolutions and linear layers of both graphs by name, and the normalisation.

    The graphs call a bias otherwise where batch normalisation was folded into a convolution.
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
    model = onnx.load(graph).graph
    values = {each.name: numpy_helper.to_array(each) for each in model.initializer}
    found: dict[str, Any] = {}
    for node in model.node:
        if node.op_type in _LAYERS:
            # Of biases that are equal, the exporter keeps one, and none of those that are 0.
            _, weight, *biases = node.input
            name = weight.removesuffix(".weight")
            found[f"{part}/{name}.weight"] = values[weight]
            bias = values[biases[0]] if biases else np.zeros(len(values[weight]), np.float32)
            found[f"{part}/{name}.bias"] = bias
    return found
