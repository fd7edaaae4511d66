"""A bundle's graphs hold their weights: what lies in other files is not verified, and refused."""

from pathlib import Path

import numpy as np
import pytest

from her2d.bundle.external_data import has_external_data
from her2d.bundle.loading import load_bundle, sha256_of
from her2d.bundle.manifest import BundleError

onnx = pytest.importorskip("onnx")
helper, numpy_helper = onnx.helper, onnx.numpy_helper

WEIGHTS = np.arange(4096, dtype=np.float32)


def external(name: str = "w"):
    tensor = numpy_helper.from_array(WEIGHTS, name)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")
    return tensor


def graph_of(initializers=(), nodes=(), sparse=()):
    info = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    return helper.make_graph(
        list(nodes), "g", [info], [info], list(initializers), sparse_initializer=list(sparse)
    )


def model_of(graph, **more) -> bytes:
    return helper.make_model(graph, **more).SerializeToString()


def constant(tensor):
    return helper.make_node("Constant", [], ["c"], value=tensor)


def in_a_function():
    opset = helper.make_opsetid("", 18)
    function = helper.make_function("d", "F", [], ["c"], [constant(external())], [opset])
    return model_of(graph_of(), functions=[function])


HIDDEN = {
    "initializer": lambda: model_of(graph_of([external()])),
    "constant": lambda: model_of(graph_of(nodes=[constant(external())])),
    "branch": lambda: model_of(
        graph_of(nodes=[helper.make_node("If", ["x"], ["y"], then_branch=graph_of([external()]))])
    ),
    "loop in a branch": lambda: model_of(
        graph_of(
            nodes=[
                helper.make_node(
                    "If",
                    ["x"],
                    ["y"],
                    else_branch=graph_of(
                        nodes=[helper.make_node("Loop", ["x"], ["y"], body=graph_of([external()]))]
                    ),
                )
            ]
        )
    ),
    "sparse": lambda: model_of(
        graph_of(sparse=[helper.make_sparse_tensor(external(), external("i"), [9])])
    ),
    "function": in_a_function,
}


@pytest.mark.parametrize("place", HIDDEN)
def test_external_data_is_found_wherever_a_tensor_can_be(place: str) -> None:
    assert has_external_data(HIDDEN[place]())


def test_weights_within_the_graph_are_no_external_data() -> None:
    inside = numpy_helper.from_array(WEIGHTS, "w")
    assert not has_external_data(model_of(graph_of([inside], nodes=[constant(inside)])))


def test_exported_graphs_have_none(color_bundle) -> None:
    for path in (color_bundle.segmenter, color_bundle.classifiers):
        assert not has_external_data(path.read_bytes())


@pytest.mark.parametrize("content", [b"", b"segmenter", bytes(100), b"\xff" * 100, b"\x3a\xff\x01"])
def test_what_is_not_protobuf_has_none(content: bytes) -> None:
    assert not has_external_data(content)


def test_a_bundle_with_external_data_is_refused(color_bundle, tmp_path: Path) -> None:
    folder = tmp_path / "b"
    folder.mkdir()
    for file in color_bundle.directory.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    graph = folder / "segmenter.onnx"
    before = sha256_of(graph)
    graph.write_bytes(HIDDEN["initializer"]())
    manifest = folder / "manifest.toml"
    manifest.write_text(manifest.read_text().replace(before, sha256_of(graph)))
    with pytest.raises(BundleError, match=r"segmenter\.onnx keeps weights in other files"):
        load_bundle(folder)
