"""Operators that a Vision Transformer has and no other network, on every back end."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import openvino
import pytest
import torch
from inference_bundles import MEAN, STD

from her2d.inference.compiler.cast_precision import cast_to_precision
from her2d.inference.compiler.tensorrt_builder import build_plan
from her2d.inference.compiler.tensorrt_graph import for_tensorrt
from her2d.inference.onnx_to_torch import GraphModule
from her2d.inference.plans import Profile
from her2d.research.networks.build import build_classifier
from her2d.research.networks.export import ClassifiersGraph, export_classifiers

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    """A network of one head and three blocks, with weights that differ from their initial ones."""
    torch.manual_seed(1)
    network = build_classifier("vit_b_32", width_multiplier=1 / 12).eval()
    network.vit.blocks = network.vit.blocks[:3]
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return network


@pytest.fixture(scope="module")
def exported(network, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "vit.onnx"
    export_classifiers([network], path, mean=MEAN, std=STD)
    return path


@pytest.fixture(scope="module")
def tiles(tissue) -> np.ndarray:
    """Three different tiles, where the graph was exported with two."""
    return np.concatenate([tissue(2), 255 - tissue(1)])


@pytest.fixture(scope="module")
def expected(network, tiles) -> np.ndarray:
    with torch.no_grad():
        p = ClassifiersGraph([network], MEAN, STD)(torch.from_numpy(tiles)).numpy()
    assert np.ptp(p) > 0.01
    return p


def by_onnxruntime(content: bytes, tiles: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(None, {"tiles": tiles})[0]


def test_the_exported_graph_is_the_torch_network(exported, tiles, expected):
    assert np.allclose(by_onnxruntime(exported.read_bytes(), tiles), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("dtype", "nearest"), [(torch.float32, 1e-5), (torch.float16, 0.005), (torch.bfloat16, 0.03)]
)
def test_the_torch_back_end_computes_the_same(exported, tiles, expected, dtype, nearest):
    module = GraphModule(exported.read_bytes(), exported, dtype).eval()
    with torch.inference_mode():
        (found,) = module(torch.from_numpy(tiles))
    assert found.dtype == torch.float32
    assert np.abs(found.numpy() - expected).max() <= nearest


def test_openvino_computes_the_same(exported, tiles, expected):
    compiled = openvino.compile_model(exported, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert np.allclose(compiled({"tiles": tiles})[0], expected, atol=1e-5)


def test_fp16_stays_near(exported, tiles, expected):
    cast = cast_to_precision(onnx.load(exported), "fp16")
    products = {n.op_type for n in cast.graph.node if n.op_type in ("MatMul", "Einsum")}
    assert products == {"MatMul", "Einsum"}
    assert np.allclose(by_onnxruntime(cast.SerializeToString(), tiles), expected, atol=0.005)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_it_is_built_for_rtx(exported, tmp_path, precision):
    model = cast_to_precision(for_tensorrt(onnx.load(exported)), precision)
    built = build_plan(
        "tensorrt_rtx",
        model.SerializeToString(),
        Profile(best=2, most=2),
        timing_cache=tmp_path / "timing",
        progress=lambda *_: None,
    )
    assert {tensor.name for tensor in built.outputs} == {"p_strong"}
