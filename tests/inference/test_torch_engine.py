"""The torch back end gives the same outputs as ONNX Runtime."""

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from inference_bundles import with_other_graphs
from onnx import TensorProto, helper, numpy_helper

from her2d.inference.engine import EngineError
from her2d.inference.onnx_to_torch import GraphModule
from her2d.inference.onnxruntime_engine import OnnxRuntimeEngine
from her2d.inference.options import EngineOptions
from her2d.inference.torch_engine import TorchEngine

pytestmark = pytest.mark.slow

# float32 sums in another order may differ by this much.
P_TOLERANCE = 1e-5
MASK_AGREEMENT = 0.9999


@pytest.fixture(scope="module")
def engines(slim_bundle):
    options = EngineOptions(precision="fp32", threads=1)
    both = OnnxRuntimeEngine(slim_bundle, threads=1), TorchEngine(slim_bundle, options, "cpu")
    yield both
    for engine in both:
        engine.close()


@pytest.mark.parametrize("n", [1, 3])
def test_fp32_on_the_cpu_equals_onnxruntime(engines, tissue, n):
    reference, engine = engines
    tiles = tissue(n)
    expected, found = reference.segment(tiles), engine.segment(tiles)
    assert 0 < expected.mask.mean() < 1
    assert (found.mask == expected.mask).mean() >= MASK_AGREEMENT
    assert np.array_equal(found.tumor_pixels, found.mask.sum((1, 2), dtype=np.int32))
    assert found.tumor_pixels.dtype == np.int32
    assert np.abs(engine.classify(tiles) - reference.classify(tiles)).max() <= P_TOLERANCE


def test_graphs_of_another_opset_with_other_operators_are_supported_too(color_bundle):
    engine = TorchEngine(color_bundle, EngineOptions(threads=1), "cpu")
    tile = np.full((2, 512, 512, 3), (60, 51, 0), np.uint8)
    assert engine.segment(tile).tumor_pixels.tolist() == [512 * 512] * 2
    assert engine.classify(tile) == pytest.approx(np.full((2, 5), 0.2))


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_stays_near(slim_bundle, engines, tissue, precision):
    engine = TorchEngine(slim_bundle, EngineOptions(precision=precision, threads=1), "cpu")
    reference, tiles = engines[0], tissue(1)
    assert (engine.segment(tiles).mask == reference.segment(tiles).mask).mean() > 0.95
    p = engine.classify(tiles)
    assert p.dtype == np.float32
    assert 0 < np.abs(p - reference.classify(tiles)).max() < 0.03


def test_every_relu_is_computed_with_the_convolution_before_it(slim_bundle):
    for path in (slim_bundle.segmenter, slim_bundle.classifiers):
        operators = Counter(node.op_type for node in onnx.load(path).graph.node)
        module = GraphModule(path.read_bytes(), path, torch.float32)
        assert operators["Relu"] > 0
        assert module.operators()["Relu"] == 0
        joined = module.operators()["ConvRelu"] + module.operators()["ConvAddRelu"]
        assert joined == operators["Relu"]


def test_a_convolution_whose_output_is_read_twice_stays_separate(tmp_path):
    path = tmp_path / "twice.onnx"
    onnx.save(twice_read_convolution(), path)
    tiles = torch.randint(0, 256, (1, 8, 8, 3), dtype=torch.uint8)
    module = GraphModule(path.read_bytes(), path, torch.float32)
    assert module.operators()["Conv"] == 1
    (found,) = module(tiles)
    session = onnxruntime.InferenceSession(path)
    assert np.allclose(found.numpy(), session.run(None, {"tiles": tiles.numpy()})[0], atol=1e-4)


def twice_read_convolution() -> onnx.ModelProto:
    """conv + relu(conv): the sum needs the convolution's output before the ReLU."""
    weight = np.random.default_rng(0).normal(size=(3, 3, 1, 1)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["tiles"], ["x"], to=TensorProto.FLOAT),
            helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
            helper.make_node("Conv", ["t", "w", "b"], ["c"]),
            helper.make_node("Relu", ["c"], ["r"]),
            helper.make_node("Add", ["c", "r"], ["sum"]),
        ],
        "twice",
        [helper.make_tensor_value_info("tiles", TensorProto.UINT8, [1, 8, 8, 3])],
        [helper.make_tensor_value_info("sum", TensorProto.FLOAT, [1, 3, 8, 8])],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(np.zeros(3, "f"), "b")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_kept_tiles_are_classified_like_the_same_tiles_in_an_array(engines, tissue):
    tiles = tissue(4)
    for engine in engines:
        batch = engine.upload(list(tiles))
        assert len(batch) == 4
        kept = [batch.keep(index) for index in (3, 1)]
        batch.release()
        assert np.array_equal(engine.classify_kept(kept), engine.classify(tiles[[3, 1]]))


def test_int8_is_refused(slim_bundle):
    with pytest.raises(EngineError, match="not int8"):
        TorchEngine(slim_bundle, EngineOptions(precision="int8"), "cpu")


def test_an_operator_that_is_not_supported_is_refused_by_name(color_bundle, tmp_path):
    node = helper.make_node("Sin", ["tiles"], ["mask"])
    tiles = helper.make_tensor_value_info("tiles", TensorProto.FLOAT, ["N", 512, 512, 3])
    mask = helper.make_tensor_value_info("mask", TensorProto.FLOAT, ["N", 512, 512, 3])
    graph = helper.make_graph([node], "sine", [tiles], [mask])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, tmp_path / color_bundle.segmenter.name)
    strange = with_other_graphs(color_bundle, tmp_path)
    with pytest.raises(EngineError, match="does not support Sin"):
        TorchEngine(strange, EngineOptions(), "cpu")


def test_a_batch_of_the_wrong_shape_is_an_engine_error(engines):
    with pytest.raises(EngineError, match="failed on a batch of 2 tiles"):
        engines[1].segment(np.zeros((2, 500, 500, 3), np.uint8))
