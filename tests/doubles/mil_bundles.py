"""A bundle that calls slides by attention, whose results are easy to calculate.

Its segmenter is that of the bundle of colours. A tile's only feature is its mean green, 0 to 1.
Attention is the softmax of 20 times that over the slide's tumour tiles, and the probability is the
mean green that it weighs.
"""

import shutil
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tomli_w
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from stained_tiles import TUMOR_STRONG, TUMOR_WEAK

from her2d.bundle.loading import Bundle, load_bundle, sha256_of
from her2d.inference.mil_engine import OnnxRuntimeMilEngine, reference_bag

THRESHOLD = 0.3
SHARPNESS = 20.0
GREEN = {letter: (color[1] + 2) / 255 for letter, color in (("w", TUMOR_WEAK), ("S", TUMOR_STRONG))}
"""Mean green of tumour tiles; half of the pixels of a grain are 4 brighter."""


def expected(letters: str) -> tuple[float, NDArray[np.float64]]:
    """Return the probability of a slide of these tumour tiles, and the attention to each."""
    green = np.array([GREEN[letter] for letter in letters]).astype(np.float16).astype(np.float64)
    weights = np.exp(SHARPNESS * green)
    attention = weights / weights.sum()
    return float((attention * green).sum()), attention


def write_mil_bundle(
    of: Bundle,
    folder: Path,
    *,
    mil: Mapping[str, Any] | None = None,
    encoder: Callable[[Path], None] | None = None,
    attention: Callable[[Path], None] | None = None,
    decision: Mapping[str, Any] | None = None,
    with_reference: bool = True,
) -> Bundle:
    """Write the bundle; arguments replace its parts, or keys of `[mil]` and `[decision]`."""
    folder.mkdir(parents=True)
    shutil.copyfile(of.segmenter, folder / "segmenter.onnx")
    (encoder or write_encoder)(folder / "encoder.onnx")
    (attention or write_attention)(folder / "attention.onnx")
    manifest = tomllib.loads((of.directory / "manifest.toml").read_text())
    manifest |= {"name": "attention", "decision": dict(decision or {})}
    manifest["parts"] = {
        part: {
            "file": f"{part}.onnx",
            "sha256": sha256_of(folder / f"{part}.onnx"),
            "architecture": "colours",
        }
        for part in ("segmenter", "encoder", "attention")
    }
    manifest["mil"] = {
        "threshold": THRESHOLD,
        "chosen_on": "no slides",
        "encoder": "mean green",
        "sets": 1,
        "channels": 1,
        "reference": {"p_positive": 0.0, "attention": []},
        **(mil or {}),
    }
    path = folder / "manifest.toml"
    path.write_text(tomli_w.dumps(manifest))
    if with_reference:
        engine = OnnxRuntimeMilEngine(load_bundle(folder), threads=1)
        manifest["mil"]["reference"] = reference_bag(engine).model_dump()
        engine.close()
        path.write_text(tomli_w.dumps(manifest))
    return load_bundle(folder)


def write_encoder(path: Path, *, channels: int = 1) -> None:
    """An encoder of raw tiles that gives mean green, as often as there are channels."""
    nodes = [
        helper.make_node("Gather", ["tiles", "green"], ["picked"], axis=3),
        helper.make_node("Cast", ["picked"], ["as_float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["as_float", "axes"], ["mean"], keepdims=0),
        helper.make_node("Div", ["mean", "full"], ["features"]),
    ]
    constants = {
        "green": np.array([1] * channels),
        "axes": np.array([1, 2]),
        "full": np.float32([255]),
    }
    shape = ["N", channels]
    _save(path, nodes, constants, ("tiles", TensorProto.UINT8, ["N", 512, 512, 3]), features=shape)


def write_attention(
    path: Path, *, sets: int = 1, channels: int = 1, scale: float = 1.0, weights: str = "Softmax"
) -> None:
    """One network that weighs tiles by their first feature; `scale` multiplies its probability.

    `weights` is the operator that makes weights of scores.
    """
    over_tiles = {"axis": 0} if weights == "Softmax" else {}
    nodes = [
        helper.make_node("Gather", ["features", "first"], ["set"], axis=1),
        helper.make_node("Gather", ["set", "first"], ["feature"], axis=1),
        helper.make_node("Reshape", ["feature", "column"], ["as_column"]),
        helper.make_node("Mul", ["as_column", "sharpness"], ["scores"]),
        helper.make_node(weights, ["scores"], ["attention"], **over_tiles),
        helper.make_node("Mul", ["attention", "as_column"], ["weighed"]),
        helper.make_node("ReduceSum", ["weighed", "rows"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["sum", "scale"], ["p_positive"]),
    ]
    constants = {
        "first": np.array(0),
        "column": np.array([-1, 1]),
        "sharpness": np.float32([SHARPNESS]),
        "rows": np.array([0]),
        "scale": np.float32([scale]),
    }
    given = ("features", TensorProto.FLOAT, ["T", sets, channels])
    _save(path, nodes, constants, given, p_positive=[1], attention=["T", 1])


def _save(
    path: Path,
    nodes: list[onnx.NodeProto],
    constants: Mapping[str, Any],
    given: tuple[str, int, list[Any]],
    **outputs: list[Any],
) -> None:
    name, kind, shape = given
    graph = helper.make_graph(
        nodes,
        path.stem,
        [helper.make_tensor_value_info(name, kind, shape)],
        [
            helper.make_tensor_value_info(output, TensorProto.FLOAT, size)
            for output, size in outputs.items()
        ],
        [numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, path)
