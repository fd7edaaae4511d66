"""Arithmetic counted from graphs, against what one can work out by hand."""

import onnx
import pytest
from onnx import TensorProto, helper

from tools.benchmark.flops import flops_of


def write(path, node, shapes, input_shape, output_shape):
    weights = [
        helper.make_tensor(name, TensorProto.FLOAT, shape, [0.0] * onnx.numpy_helper.np.prod(shape))
        for name, shape in shapes.items()
    ]
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, input_shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, output_shape)],
        weights,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), path)
    return path


@pytest.mark.parametrize(
    ("node", "weight", "input_shape", "output_shape", "multiply_adds"),
    [
        (
            ("Conv", {"pads": [1, 1, 1, 1]}),
            (5, 3, 3, 3),
            ("N", 3, 8, 8),
            ("N", 5, 8, 8),
            5 * 64 * 27,
        ),
        (("Conv", {"group": 2}), (4, 3, 1, 1), ("N", 6, 8, 8), ("N", 4, 8, 8), 4 * 64 * 3),
        (
            ("ConvTranspose", {"strides": [2, 2]}),
            (3, 5, 2, 2),
            ("N", 3, 4, 4),
            ("N", 5, 8, 8),
            3 * 16 * 5 * 4,
        ),
        (("Gemm", {"transB": 1}), (7, 11), ("N", 11), ("N", 7), 77),
        (("MatMul", {}), (11, 7), ("N", 2, 11), ("N", 2, 7), 2 * 77),
    ],
)
def test_a_multiply_add_counts_two_and_the_batch_counts_one(
    tmp_path, node, weight, input_shape, output_shape, multiply_adds
):
    kind, attributes = node
    made = helper.make_node(kind, ["x", "w"], ["y"], **attributes)
    path = write(tmp_path / "g.onnx", made, {"w": weight}, input_shape, output_shape)
    assert flops_of(path) == 2 * multiply_adds


@pytest.mark.slow
def test_an_exported_segnet_takes_what_torchs_own_counter_says(tmp_path):
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode

    from her2d.research.networks.build import build_segmenter
    from her2d.research.networks.export import export_segmenter

    network = build_segmenter("segnet", width_multiplier=1 / 16).eval()
    export_segmenter(network, tmp_path / "s.onnx", mean=(0.5,) * 3, std=(0.5,) * 3)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.empty(1, 3, 512, 512))
    assert flops_of(tmp_path / "s.onnx") == counter.get_total_flops()
