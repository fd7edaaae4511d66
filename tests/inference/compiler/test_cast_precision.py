"""Graphs cast to half precision, as ONNX Runtime computes them."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from her2d.inference.compiler.cast_precision import UnknownOperatorError, cast_to_precision
from her2d.inference.compiler.tensorrt_graph import for_tensorrt

pytestmark = pytest.mark.slow


def run(model, tiles):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"tiles": tiles})


def inputs_and_outputs(model):
    return [
        (value.name, value.type.tensor_type.elem_type)
        for value in (*model.graph.input, *model.graph.output)
    ]


@pytest.fixture(params=["segmenter", "classifiers"])
def model(request, slim_bundle):
    return onnx.load(getattr(slim_bundle, request.param))


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_the_cast_graph_is_valid_and_keeps_its_inputs_and_outputs(model, precision):
    cast = cast_to_precision(for_tensorrt(model), precision)
    onnx.checker.check_model(cast, full_check=True)
    assert inputs_and_outputs(cast) == inputs_and_outputs(model)
    kind = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}[precision]
    weights = [item for item in cast.graph.initializer if len(item.dims) == 4]
    kernels = {name for node in cast.graph.node if node.op_type == "Conv" for name in node.input}
    assert {item.data_type for item in weights if item.name in kernels} == {kind}


def test_fp16_computes_nearly_the_same(model, tissue):
    tiles = tissue(1)
    for before, after in zip(
        run(model, tiles), run(cast_to_precision(model, "fp16"), tiles), strict=True
    ):
        assert after.dtype == before.dtype
        if before.dtype == np.float32:
            assert 0 < np.abs(after - before).max() < 0.01
        elif before.ndim == 3:
            assert (after == before).mean() > 0.99


def kinds(model) -> list[str]:
    return [node.op_type for node in model.graph.node]


def test_an_older_bundles_graph_is_made_to_cast_before_it_transposes(tissue):
    """Bundles exported before her2d cast first can still be compiled."""
    nodes = [
        helper.make_node("Transpose", ["tiles"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["planes"], ["y"], to=TensorProto.FLOAT),
    ]
    graph = helper.make_graph(
        nodes,
        "older",
        [helper.make_tensor_value_info("tiles", TensorProto.UINT8, ["N", 512, 512, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3, 512, 512])],
    )
    older = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    adapted = for_tensorrt(older)
    assert kinds(adapted) == ["Cast", "Transpose"]
    (before,), (after,) = run(older, tissue(1)), run(adapted, tissue(1))
    assert np.array_equal(before, after)


def test_an_exported_graph_casts_first_and_is_not_changed(model):
    assert kinds(model).index("Cast") < kinds(model).index("Transpose")
    assert list(for_tensorrt(model).graph.node) == list(model.graph.node)


def test_the_given_model_is_left_as_it_was(model):
    before = model.SerializeToString()
    cast_to_precision(for_tensorrt(model), "fp16")
    assert model.SerializeToString() == before


def test_an_operator_without_a_rule_is_refused():
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["y"]),
        helper.make_node("Sin", ["y"], ["z"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 4, 4])
    z = helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 1, 4, 4])
    weight = helper.make_tensor("w", TensorProto.FLOAT, [1, 1, 1, 1], [1.0])
    graph = helper.make_graph(nodes, "sine", [x], [z], [weight])
    with pytest.raises(UnknownOperatorError, match="Sin"):
        cast_to_precision(
            helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), "fp16"
        )
