"""A small ONNX encoder of tiles, as a user would bring a large one."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

NHWC, NCHW = ("N", 512, 512, 3), ("N", 3, 512, 512)
DESCRIPTION = 'file = "encoder.onnx"\nlayout = "{layout}"\n{more}'


def write_encoder(
    folder: Path,
    shape: tuple[int | str, ...],
    *,
    dtype: int = TensorProto.FLOAT,
    layout: str = "NCHW",
    keep: bool = False,
    more: str = "",
) -> Path:
    """An encoder that gives a picture's mean of each channel, and its description."""
    axes = numpy_helper.from_array(np.array((1, 2) if layout == "NHWC" else (2, 3)), "axes")
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["x"], ["as_float"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["as_float", "axes"], ["y"], keepdims=int(keep)),
        ],
        "encoder",
        [helper.make_tensor_value_info("x", dtype, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [axes],
    )
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), folder / "encoder.onnx")
    path = folder / "encoder.toml"
    path.write_text(DESCRIPTION.format(layout=layout, more=more))
    return path
