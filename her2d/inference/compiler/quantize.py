"""Quantise an fp32 ONNX graph to int8 convolutions, with explicit Q/DQ pairs.

Activations and weights are symmetric int8 and biases stay float. TensorRT and ONNX Runtime both
accept that, so one graph serves CPU and GPU.
"""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

from her2d.inference.engine import Tiles


def quantized(model: onnx.ModelProto, tiles: Tiles) -> onnx.ModelProto:
    """Copy a graph with the inputs, weights and outputs of its convolutions in int8.

    Args:
        model: a bundle's graph, in fp32.
        tiles: tiles from which the ranges of activations are taken, uint8 (N, 512, 512, 3), N >= 1.
    """
    with tempfile.TemporaryDirectory(prefix="her2d-int8-") as folder, _quiet():
        prepared, result = Path(folder, "prepared.onnx"), Path(folder, "int8.onnx")
        onnx.save(onnx.shape_inference.infer_shapes(model), prepared)
        quantize_static(
            prepared,
            result,
            _OneByOne(tiles),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={
                "ActivationSymmetric": True,
                "WeightSymmetric": True,
                "QuantizeBias": False,
            },
        )
        return onnx.load(result)


class _OneByOne(CalibrationDataReader):  # type: ignore[misc]
    """Reads one tile at a time, because all activations of a batch are kept in memory."""

    def __init__(self, tiles: Tiles) -> None:
        self._tiles = iter(tiles)

    def get_next(self) -> dict[str, Tiles] | None:
        tile = next(self._tiles, None)
        return None if tile is None else {"tiles": np.ascontiguousarray(tile[None])}


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the quantiser's warnings about options that are set on purpose."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
