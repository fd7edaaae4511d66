"""The graph of five sub-classifiers, divided into one graph for each."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from her2d.bundle.loading import load_bundle
from her2d.inference.engine import EngineError
from her2d.inference.fold_graphs import fold_graphs
from her2d.inference.onnxruntime_engine import OnnxRuntimeEngine
from her2d.inference.options import EngineOptions
from her2d.inference.selection import open_engine
from her2d.inference.separate_folds import _check_tiles, open_separately
from her2d.method import FOLDS
from her2d.settings import PACKAGE_DATA

SHIPPED = PACKAGE_DATA / "her2net-demo" / "classifiers.onnx"


def joining(nodes, names, *, operator="Concat", outputs=("p_strong",), **attributes) -> bytes:
    """A graph that computes float columns from tiles and joins those of `names`."""
    tiles = helper.make_tensor_value_info("tiles", TensorProto.UINT8, ["N", 512, 512, 3])
    infos = [helper.make_tensor_value_info(o, TensorProto.FLOAT, ["N", None]) for o in outputs]
    last = helper.make_node(operator, names, ["p_strong"], **attributes)
    graph = helper.make_graph([*nodes, last], "graph", [tiles], infos)
    return helper.make_model(graph).SerializeToString()


def columns(*names):
    return [helper.make_node("Cast", ["tiles"], [name], to=TensorProto.FLOAT) for name in names]


FIVE = ["a", "b", "c", "d", "e"]


def test_each_part_of_the_shipped_graph_holds_its_own_weights_and_nothing_else():
    content = SHIPPED.read_bytes()
    parts = list(fold_graphs(content))
    assert len(parts) == FOLDS
    for fold, part in enumerate(parts):
        model = onnx.load_model_from_string(part)
        onnx.checker.check_model(model, full_check=True)
        weights = {weight.name for weight in model.graph.initializer}
        networks = {name.split(".")[1] for name in weights if name.startswith("networks.")}
        assert networks == {str(fold)}
        assert [output.name for output in model.graph.output] == ["p_strong"]
    assert sum(map(len, parts)) < 1.1 * len(content)


def test_the_parts_compute_what_the_whole_computes_to_the_last_bit(tissue):
    content, tiles = SHIPPED.read_bytes(), tissue(3)

    def run(graph: bytes) -> np.ndarray:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        return onnxruntime.InferenceSession(graph, options).run(["p_strong"], {"tiles": tiles})[0]

    whole = run(content)
    assert whole.tobytes() == np.concatenate(list(map(run, fold_graphs(content))), 1).tobytes()


@pytest.mark.parametrize(
    "content",
    [
        joining(columns("a"), ["a"] * FOLDS, axis=1),
        joining(columns(*FIVE[:4]), FIVE[:4], axis=1),
        joining(columns(*FIVE), FIVE, axis=2),
        joining(columns(*FIVE), FIVE, operator="Sum"),
        joining(columns(*FIVE), FIVE, axis=1, outputs=("p_strong", "a")),
        b"",
        b"not an ONNX file at all",
        SHIPPED.read_bytes()[:-100_000],
    ],
    ids=["one value", "four", "another axis", "a sum", "two outputs", "empty", "text", "cut"],
)
def test_any_other_graph_is_not_divided(content):
    assert fold_graphs(content) is None


def test_a_graph_in_which_a_step_contains_graphs_is_not_divided():
    """These may read any value without naming it as an input."""
    inner = helper.make_graph(
        [helper.make_node("Identity", ["b"], ["x"])],
        "inner",
        [],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)],
    )
    yes = numpy_helper.from_array(np.array(True), "yes")
    nodes = [
        *columns(*FIVE[1:]),
        helper.make_node("Constant", [], ["yes"], value=yes),
        helper.make_node("If", ["yes"], ["a"], then_branch=inner, else_branch=inner),
    ]
    assert fold_graphs(joining(nodes, FIVE, axis=1)) is None


def opened_separately(bundle, backend):
    options = EngineOptions(threads=1, separate_folds=True)
    if backend == "torch":
        torch_engine = pytest.importorskip("her2d.inference.torch_engine")
        return torch_engine.TorchEngine(bundle, options, "cpu")
    return open_engine(bundle, backend=backend, options=options)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["onnxruntime", "torch"])
def test_one_sub_classifier_at_a_time_an_engine_computes_the_same(tissue, backend):
    engine, tiles = opened_separately(load_bundle(SHIPPED.parent), backend), tissue(1)
    batch = engine.upload(list(tiles))
    kept = [batch.keep(0)]
    batch.release()
    assert engine.separate_folds_problem(1) is None
    # Whether PyTorch rounds otherwise in a batch depends on the processor.
    several = _check_tiles()
    alike = np.array_equal(engine.classify(several)[:1], engine.classify(several[:1]))
    assert (engine.separate_folds_problem(8) is None) == alike
    assert alike or backend == "torch"
    one_by_one = np.stack([engine.classify_fold(kept, fold) for fold in range(FOLDS)], axis=1)
    whole = open_engine(load_bundle(SHIPPED.parent), backend="onnxruntime", threads=1)
    if backend == "onnxruntime":
        assert one_by_one.tobytes() == whole.classify(tiles).tobytes()
    assert one_by_one == pytest.approx(whole.classify(tiles), abs=1e-5)
    assert one_by_one.tobytes() == engine.classify(tiles).tobytes()
    assert one_by_one.tobytes() == engine.classify_kept(kept).tobytes()
    engine.close()


def test_an_engine_says_why_its_sub_classifiers_are_run_at_once(color_bundle):
    """The networks of this bundle are one step, which repeats a value five times."""
    engine = opened_separately(color_bundle, "onnxruntime")
    assert "does not end with a step that joins" in engine.separate_folds_problem(1)
    with pytest.raises(EngineError, match="does not end with"):
        engine.classify_fold([], 0)
    assert engine.classify(np.zeros((1, 512, 512, 3), np.uint8)).shape == (1, FOLDS)


def test_sub_classifiers_that_compute_otherwise_one_at_a_time_are_run_at_once(monkeypatch):
    monkeypatch.setattr(
        "her2d.inference.separate_folds.fold_graphs",
        lambda graph: reversed(list(fold_graphs(graph))),
    )
    engine = OnnxRuntimeEngine(load_bundle(SHIPPED.parent), threads=1, separate_folds=True)
    assert "does not compute exactly the same" in engine.separate_folds_problem(1)


def test_where_numbers_depend_on_the_size_of_a_batch_only_single_tiles_run_one_by_one():
    """As cuDNN's may."""

    def classify(network: str, tiles) -> np.ndarray:
        columns = FOLDS if network == "joined" else 1
        return np.full((len(tiles), columns), 0.5 + 1e-6 * len(tiles), np.float32)

    found = open_separately(SHIPPED.read_bytes(), "joined", lambda _: "one", classify)
    assert found.problem_for(1) is None
    assert "in batches of another size" in found.problem_for(8)


def test_an_engine_that_was_opened_as_usual_says_so(color_bundle):
    engine = OnnxRuntimeEngine(color_bundle, threads=1)
    assert engine.separate_folds_problem(1) == (
        "The engine was opened to run all sub-classifiers at once."
    )
