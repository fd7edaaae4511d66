"""Whole rewritten networks are compared with those of the bundle."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from her2d.bundle.loading import load_bundle
from her2d.inference import onnxruntime_engine
from her2d.inference.cpu_graph.rewrite import rewritten
from her2d.inference.cpu_graph.whole_graph import RewrittenNetworks, compare_rewritten
from her2d.settings import PACKAGE_DATA

SEGMENTER, CLASSIFIERS = "segmenter.onnx", "classifiers.onnx"


@pytest.fixture(scope="module")
def shipped():
    return load_bundle(PACKAGE_DATA / "her2net-demo")


def test_the_shipped_networks_give_the_bits_of_the_bundle(shipped):
    found = compare_rewritten(shipped, threads=1)
    assert SEGMENTER in found.rewritten
    assert found.differing == ()


def test_a_bundle_whose_networks_no_rule_fits_is_not_compared(color_bundle):
    assert compare_rewritten(color_bundle, threads=1) == RewrittenNetworks((), ())


def with_a_larger_weight(graph: bytes) -> bytes:
    """The same graph with one weight of its last convolution a hundredth larger."""
    model = onnx.load_model_from_string(graph)
    last = [node for node in model.graph.node if node.op_type == "Conv"][-1]
    (kernel,) = (each for each in model.graph.initializer if each.name == last.input[1])
    values = numpy_helper.to_array(kernel).copy()
    values[np.unravel_index(np.abs(values).argmax(), values.shape)] *= np.float32(1.01)
    kernel.CopyFrom(numpy_helper.from_array(values, kernel.name))
    return model.SerializeToString()


@pytest.mark.parametrize("altered", [SEGMENTER, CLASSIFIERS])
def test_a_network_that_is_rewritten_wrongly_is_named(altered, shipped, monkeypatch):
    wrong_for = (shipped.directory / altered).read_bytes()

    def wrongly(graph: bytes) -> bytes | None:
        return with_a_larger_weight(graph) if graph == wrong_for else rewritten(graph)

    monkeypatch.setattr(onnxruntime_engine, "rewritten", wrongly)
    assert compare_rewritten(shipped, threads=1).differing == (altered,)
