"""A bundle of five networks that are easy to calculate, joined as the exporter joins them."""

import shutil
import tomllib
from pathlib import Path

import numpy as np
import onnx
import tomli_w
from onnx import numpy_helper

from her2d.bundle.loading import Bundle, load_bundle, sha256_of
from her2d.method import FOLDS

SCALES = (1.0, 0.95, 1.05, 0.9, 1.1)
"""What the sub-classifiers multiply the mean green of a tile by, 0 to 1."""


def write_separable_bundle(of: Bundle, folder: Path) -> Bundle:
    """Copy the bundle of colours with five networks in place of one value that is repeated."""
    shutil.copytree(of.directory, folder)
    path = folder / "classifiers.onnx"
    model = onnx.load(path)
    graph = model.graph
    (repeated,) = (node for node in graph.node if node.op_type == "Tile")
    graph.node.remove(repeated)
    for fold, scale in enumerate(SCALES):
        graph.initializer.append(numpy_helper.from_array(np.float32([scale]), f"scale_{fold}"))
        inputs = [repeated.input[0], f"scale_{fold}"]
        graph.node.append(onnx.helper.make_node("Mul", inputs, [f"p_{fold}"]))
    columns = [f"p_{fold}" for fold in range(FOLDS)]
    graph.node.append(onnx.helper.make_node("Concat", columns, ["p_strong"], axis=1))
    onnx.save(model, path)
    manifest = tomllib.loads((folder / "manifest.toml").read_text())
    manifest["parts"]["classifiers"]["sha256"] = sha256_of(path)
    (folder / "manifest.toml").write_text(tomli_w.dumps(manifest))
    return load_bundle(folder)
