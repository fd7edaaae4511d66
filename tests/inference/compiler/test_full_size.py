"""The paper's own networks, SegNet and five ResNet50, built for TensorRT without a GPU.

Weights are random and no batch is run; the tests look at the builder's input and output.
"""

import onnx
import pytest
from inference_bundles import write_bundle

from her2d.inference.compiler.cast_precision import cast_to_precision
from her2d.inference.compiler.tensorrt_builder import Tensor, build_plan
from her2d.inference.compiler.tensorrt_graph import for_tensorrt
from her2d.inference.plans import Profile

pytestmark = pytest.mark.slow

pytest.importorskip("tensorrt_rtx")

TILES = (Tensor("tiles", "uint8", (-1, 512, 512, 3)),)
OUTPUTS = {
    "segmenter": (
        Tensor("tumor_pixels", "int32", (-1,)),
        Tensor("mask", "uint8", (-1, 512, 512)),
    ),
    "classifiers": (Tensor("p_strong", "float", (-1, 5)),),
}


@pytest.fixture(scope="module")
def full_size(tmp_path_factory):
    return write_bundle(
        tmp_path_factory.mktemp("full") / "bundle",
        segmenter_width=1.0,
        classifier="resnet50",
        classifier_width=1.0,
    )


@pytest.mark.parametrize("part", ["segmenter", "classifiers"])
def test_a_full_size_graph_is_built_with_the_designs_inputs_and_outputs(full_size, part, tmp_path):
    model = cast_to_precision(for_tensorrt(onnx.load(getattr(full_size, part))), "fp16")
    weights = sum(len(item.raw_data) for item in model.graph.initializer)
    phases: dict[str, tuple[int, int]] = {}

    def progress(phase: str, done: int, steps: int) -> None:
        phases[phase] = (done, steps)

    built = build_plan(
        "tensorrt_rtx",
        model.SerializeToString(),
        Profile(smallest=1, best=8, most=32),
        timing_cache=tmp_path / "timing",
        progress=progress,
    )
    assert built.profile == Profile(smallest=1, best=8, most=32)
    assert (built.inputs, built.outputs) == (TILES, OUTPUTS[part])
    assert len(built.plan) > 0.9 * weights
    assert phases
    assert all(done == steps for done, steps in phases.values())
