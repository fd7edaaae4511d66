"""A graph rewritten for ONNX Runtime on the CPU computes the same to the last bit."""

from collections import Counter

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from inference_bundles import MEAN, STD, shaken
from onnx import TensorProto, helper, numpy_helper

from her2d.inference.cpu_graph import rewrite
from her2d.inference.cpu_graph.check import computes_the_same
from her2d.inference.cpu_graph.replacement import Known, Replacement
from her2d.inference.cpu_graph.rewrite import rewritten
from her2d.inference.onnx_graph import Graph
from her2d.research.networks.build import build_classifier, build_segmenter
from her2d.research.networks.export import export_classifiers, export_segmenter
from her2d.research.networks.segnet import max_pool, max_unpool
from her2d.settings import PACKAGE_DATA

SHIPPED = PACKAGE_DATA / "her2net-demo"


def results(graph: bytes, given: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return session.run(None, given)


def kinds(graph: bytes) -> Counter[str]:
    model = onnx.load_model_from_string(graph)
    onnx.checker.check_model(model)
    return Counter(node.op_type for node in model.graph.node)


def same(graph: bytes, given: dict[str, np.ndarray]) -> bool:
    faster = rewritten(graph)
    assert faster is not None
    return all(map(np.array_equal, results(graph, given), results(faster, given)))


def some_tiles(tissue) -> np.ndarray:
    """Tissue, noise, and a blank tile, where many values are equal."""
    noise = np.random.default_rng(0).integers(0, 256, (1, 512, 512, 3), np.uint8)
    return np.concatenate([tissue(2), noise, np.full_like(noise, 255)])


def with_inner_outputs(graph: bytes, *wanted: str) -> bytes:
    """The same graph that also returns what the nodes of some kinds compute."""
    model = onnx.load_model_from_string(graph)
    names = [node.output[0] for node in model.graph.node if node.op_type in wanted]
    model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    return model.SerializeToString()


# Pooling and unpooling.


class Pooling:
    """The steps of one pooling and unpooling as a bundle's graph has them."""

    def __init__(self, half: tuple[int, int, int] = (2, 2, 3)) -> None:
        channels, height, width = half
        self.nodes: list[onnx.NodeProto] = []
        self.weights = {"zero": [0], "one": [1], "two": [2], "three": [3], "end": [(1 << 63) - 1]}
        self.weights["shuffled"] = [-1, 4 * channels, height, width]
        self.half = ["N", channels, height, width]
        self.full = ["N", channels, 2 * height, 2 * width]
        starts = ("zero", "one")
        rows = [self.step("Slice", "x", start, "end", "two", "two") for start in starts]
        self.corners = [
            self.step("Slice", row, start, "end", "three", "two")
            for row in rows
            for start in starts
        ]
        upper, lower = (
            self.step("Max", *self.corners[:2]),
            self.step("Max", *self.corners[2:]),
        )
        self.pooled = self.step("Max", upper, lower, output="pooled")
        first = self.step("Equal", self.corners[0], "pooled")
        second = self.and_not(self.step("Equal", self.corners[1], "pooled"), first)
        of_two = self.step("Or", first, second)
        third = self.and_not(self.step("Equal", self.corners[2], "pooled"), of_two)
        fourth = self.step("Not", self.step("Or", of_two, third))
        spread = []
        for mask in (first, second, third, fourth):
            product = self.step("Mul", "y", self.step("Cast", mask, to=TensorProto.FLOAT))
            spread.append(self.step("Unsqueeze", product, "two"))
        channels_first = self.step("Concat", *spread, axis=2)
        flat = self.step("Reshape", channels_first, "shuffled", output="flat")
        self.step("DepthToSpace", flat, output="unpooled", blocksize=2, mode="CRD")

    def step(self, kind: str, *inputs: str, output: str = "", **attributes) -> str:
        name = output or f"value{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def and_not(self, one: str, other: str) -> str:
        return self.step("And", one, self.step("Not", other))

    def graph(self, opset: int = 18) -> bytes:
        def info(name, shape):
            return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

        shuffled = ["N", *self.weights["shuffled"][1:]]
        graph = helper.make_graph(
            self.nodes,
            "pooling",
            [info("x", self.full), info("y", self.half)],
            [info("pooled", self.half), info("unpooled", self.full)],
            [numpy_helper.from_array(np.array(v, np.int64), k) for k, v in self.weights.items()],
            value_info=[
                info("flat", shuffled),
                *(info(corner, self.half) for corner in self.corners),
            ],
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9
        )
        return model.SerializeToString()


POOLING = Pooling().graph()
FASTER_POOLING = rewritten(POOLING)

few_values = st.sampled_from([-1.5, -0.0, 0.0, 0.25, 1.0, 2.0])


@settings(deadline=None, max_examples=40)
@given(
    x=arrays(np.float32, (3, 2, 4, 6), elements=few_values),
    y=arrays(np.float32, (3, 2, 2, 3), elements=few_values),
)
def test_values_return_to_the_first_maximum_of_each_window_of_each_tile(x, y):
    assert FASTER_POOLING is not None
    pooled, positions = max_pool(torch.from_numpy(x))
    wanted = pooled, max_unpool(torch.from_numpy(y), positions)
    for found in (results(POOLING, {"x": x, "y": y}), results(FASTER_POOLING, {"x": x, "y": y})):
        assert all(map(np.array_equal, found, wanted))


def test_a_rewritten_pooling_has_positions_and_no_masks():
    found = kinds(FASTER_POOLING)
    assert found["MaxUnpool"] == 1
    assert not {"DepthToSpace", "Equal", "Not"} & set(found)


def position(kind: str, which: int = 0) -> int:
    return [at for at, node in enumerate(Pooling().nodes) if node.op_type == kind][which]


def with_input(number: int, name: str):
    return lambda node: node.input.__setitem__(number, name)


@pytest.mark.parametrize(
    ("kind", "which", "change"),
    [
        ("Slice", 1, with_input(1, "zero")),
        ("Slice", 0, with_input(3, "three")),
        ("Slice", 0, with_input(4, "one")),
        ("Max", 0, with_input(1, "value5")),
        ("Equal", 1, with_input(0, "value5")),
        ("Or", 1, with_input(1, "value9")),
        ("Mul", 2, with_input(1, "value17")),
        ("Mul", 2, with_input(0, "pooled")),
        ("DepthToSpace", 0, lambda node: node.ClearField("attribute")),
    ],
)
def test_a_graph_with_any_other_step_is_left_alone(kind, which, change):
    pooling = Pooling()
    change(pooling.nodes[position(kind, which)])
    graph = pooling.graph()
    assert graph != POOLING
    assert rewritten(graph) is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not an ONNX file at all",
        (SHIPPED / "segmenter.onnx").read_bytes()[:-1000],
        Pooling().graph(opset=16),
    ],
    ids=["empty", "text", "cut", "another version"],
)
def test_what_is_not_such_a_graph_is_left_alone(content):
    assert rewritten(content) is None


def test_shapes_that_the_file_does_not_name_leave_it_alone():
    model = onnx.load_model_from_string(POOLING)
    model.graph.ClearField("value_info")
    assert rewritten(model.SerializeToString()) is None


def test_optional_values_that_are_left_out_do_not_stand_in_its_way():
    """ONNX names each of them by an empty text, as if all were one value."""
    model = onnx.load_model_from_string(POOLING)
    model.graph.node.extend(
        [
            helper.make_node("Dropout", ["pooled"], ["same", ""]),
            helper.make_node("Dropout", ["same"], ["same again", ""]),
            helper.make_node("Clip", ["same again", "", "highest"], ["clipped"]),
        ]
    )
    model.graph.initializer.append(numpy_helper.from_array(np.float32(1), "highest"))
    model.graph.output.append(helper.make_empty_tensor_value_info("clipped"))
    rng = np.random.default_rng(0)
    given = {
        "x": rng.normal(size=(3, 2, 4, 6)).astype(np.float32),
        "y": rng.normal(size=(3, 2, 2, 3)).astype(np.float32),
    }
    assert same(model.SerializeToString(), given)


# What is checked on the machine.


def test_a_replacement_that_computes_something_else_is_refused():
    known = Known(Graph.read(POOLING))
    other = Replacement(("pooled",))
    other.add("Max", ("value2", "value3", "value4"), "pooled")
    assert not computes_the_same(known, other)
    right = Replacement(("pooled",))
    right.add("Max", ("value2", "value3", "value4", "value5"), "pooled")
    assert computes_the_same(known, right)


def test_a_replacement_that_onnxruntime_cannot_compute_is_refused():
    known = Known(Graph.read(POOLING))
    impossible = Replacement(("pooled",))
    impossible.add("Concat", ("value2", "value3"), "pooled", axis=7)
    assert not computes_the_same(known, impossible)


# The shipped graphs.


@pytest.mark.parametrize("part", ["segmenter", "classifiers"])
def test_the_shipped_graphs_compute_the_same_to_the_last_bit(part, tissue):
    graph = (SHIPPED / f"{part}.onnx").read_bytes()
    assert same(graph, {"tiles": some_tiles(tissue)[1:3]})


def test_without_wide_vectors_only_poolings_are_rewritten(monkeypatch):
    monkeypatch.setattr(rewrite, "computes_512_bits", lambda: False)
    segmenter = (SHIPPED / "segmenter.onnx").read_bytes()
    before, after = kinds(segmenter), kinds(rewritten(segmenter) or b"")
    assert after["MaxUnpool"] == before["DepthToSpace"] == 5
    assert after["Conv"] == before["Conv"]
    assert after["Transpose"] == before["Transpose"]
    assert rewritten((SHIPPED / "classifiers.onnx").read_bytes()) is None


def test_a_pooling_is_rewritten_also_where_the_convolution_before_it_would_round_otherwise(
    monkeypatch, tissue
):
    monkeypatch.setattr(rewrite, "computes_the_same", lambda *_: False)
    segmenter = (SHIPPED / "segmenter.onnx").read_bytes()
    before, after = kinds(segmenter), kinds(rewritten(segmenter) or b"")
    assert after["MaxUnpool"] == before["DepthToSpace"] == 5
    assert after["Conv"] == before["Conv"]
    assert after["Split"] == before["Split"]
    assert same(segmenter, {"tiles": some_tiles(tissue)[1:3]})


# Random networks of other widths.


@pytest.mark.slow
@pytest.mark.parametrize(("width", "seed"), [(0.05, 1), (0.125, 2)])
def test_maps_of_random_segnets_are_the_same_to_the_last_bit(width, seed, tmp_path, tissue):
    torch.manual_seed(seed)
    network = shaken(build_segmenter("segnet", width_multiplier=width))
    export_segmenter(network, tmp_path / "segmenter.onnx", mean=MEAN, std=STD)
    graph = (tmp_path / "segmenter.onnx").read_bytes()
    tiles = {"tiles": some_tiles(tissue)[1:3]}
    # The mask hides how the values before it were rounded.
    assert same(with_inner_outputs(graph, "DepthToSpace"), tiles)


@pytest.mark.slow
def test_random_resnets_compute_the_same_to_the_last_bit(tmp_path, tissue):
    torch.manual_seed(1)
    networks = [shaken(build_classifier("resnet18", width_multiplier=1 / 16)) for _ in range(5)]
    export_classifiers(networks, tmp_path / "classifiers.onnx", mean=MEAN, std=STD)
    assert same((tmp_path / "classifiers.onnx").read_bytes(), {"tiles": some_tiles(tissue)[1:3]})
