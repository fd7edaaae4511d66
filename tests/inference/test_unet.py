"""Operators that U-Net has and SegNet lacks, in torch, in the precision cast and in TensorRT."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from inference_bundles import MEAN, STD, shaken

from her2d.inference.compiler.cast_precision import cast_to_precision
from her2d.inference.compiler.tensorrt_builder import build_plan
from her2d.inference.compiler.tensorrt_graph import for_tensorrt
from her2d.inference.onnx_to_torch import GraphModule
from her2d.inference.plans import Profile
from her2d.research.networks.build import build_segmenter
from her2d.research.networks.export import export_segmenter

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Exported:
    """A graph on disk; `compared` is the name of the output that the tests compare."""

    path: Path
    compared: str

    def by_onnxruntime(self, tiles: np.ndarray, model: onnx.ModelProto | None = None) -> np.ndarray:
        content = (model or onnx.load(self.path)).SerializeToString()
        session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
        return session.run([self.compared], {"tiles": tiles})[0]


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Exported:
    """A slim U-Net; the other tests cover SegNet and the ResNets."""
    path = tmp_path_factory.mktemp("onnx") / "unet.onnx"
    torch.manual_seed(1)
    network = shaken(build_segmenter("unet", width_multiplier=1 / 16))
    export_segmenter(network, path, mean=MEAN, std=STD)
    return Exported(path, "mask")


def test_torch_computes_what_onnxruntime_computes(exported, tissue):
    tiles = tissue(2)
    module = GraphModule(exported.path.read_bytes(), exported.path, torch.float32).eval()
    with torch.inference_mode():
        outputs = module(torch.from_numpy(tiles))
    found = dict(zip(module.outputs, outputs, strict=True))[exported.compared].numpy()
    assert (found == exported.by_onnxruntime(tiles)).mean() >= 0.9999


def test_fp16_stays_near(exported, tissue):
    tiles = tissue(1)
    cast = cast_to_precision(onnx.load(exported.path), "fp16")
    found = exported.by_onnxruntime(tiles, cast)
    assert (found == exported.by_onnxruntime(tiles)).mean() >= 0.98


def test_it_is_built_for_rtx(exported, tmp_path):
    model = cast_to_precision(for_tensorrt(onnx.load(exported.path)), "fp16")
    built = build_plan(
        "tensorrt_rtx",
        model.SerializeToString(),
        Profile(best=2, most=2),
        timing_cache=tmp_path / "timing",
        progress=lambda *_: None,
    )
    assert exported.compared in {tensor.name for tensor in built.outputs}
