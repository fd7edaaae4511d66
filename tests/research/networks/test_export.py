"""The exported graph is the torch network."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from her2d.research.networks.build import build_classifier, build_segmenter
from her2d.research.networks.export import (
    ClassifiersGraph,
    SegmenterGraph,
    export_classifiers,
    export_segmenter,
)

pytestmark = pytest.mark.slow

MEAN, STD = (0.7, 0.5, 0.6), (0.2, 0.25, 0.2)


def shaken(network: torch.nn.Module) -> torch.nn.Module:
    """Weights and batch statistics that differ from their initial zeros and ones."""
    generator = torch.Generator().manual_seed(7)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.copy_(torch.randn(module.num_features, generator=generator) * 0.1)
            module.running_var.copy_(torch.rand(module.num_features, generator=generator) + 0.5)
    return network.eval()


def tiles(n: int) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (n, 512, 512, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory):
    torch.manual_seed(0)
    network = shaken(build_segmenter("segnet", width_multiplier=1 / 16))
    path = tmp_path_factory.mktemp("onnx") / "segmenter.onnx"
    export_segmenter(network, path, mean=MEAN, std=STD)
    return network, path


@pytest.fixture(scope="module")
def classifiers(tmp_path_factory):
    torch.manual_seed(0)
    networks = [shaken(build_classifier("resnet18", width_multiplier=1 / 8)) for _ in range(5)]
    path = tmp_path_factory.mktemp("onnx") / "classifiers.onnx"
    export_classifiers(networks, path, mean=MEAN, std=STD)
    return networks, path


def run(path, batch):
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"tiles": batch})


def beyond_rounding(margin: np.ndarray) -> np.ndarray:
    """Where the sign of a difference of logits does not depend on the order of float32 sums."""
    return np.abs(margin) > 1e-5 * np.abs(margin).max()


@pytest.mark.parametrize("n", [1, 3])
def test_the_segmenter_graph_is_the_torch_network(segmenter, n):
    network, path = segmenter
    batch = torch.from_numpy(tiles(n))
    counts, mask = run(path, batch.numpy())
    graph = SegmenterGraph(network, MEAN, STD)
    with torch.no_grad():
        logits = network(graph.normalized(batch))
        expected_counts, expected_mask = graph(batch)
    certain = beyond_rounding((logits[:, 1] - logits[:, 0]).numpy())
    assert certain.mean() > 0.99
    assert np.array_equal(mask[certain], expected_mask.numpy()[certain])
    assert np.array_equal(counts, mask.sum((1, 2)))
    assert np.abs(counts - expected_counts.numpy()).max() <= (~certain).sum()


@pytest.mark.parametrize("n", [1, 3])
def test_the_classifiers_graph_is_the_five_torch_networks(classifiers, n):
    networks, path = classifiers
    batch = torch.from_numpy(tiles(n))
    (p,) = run(path, batch.numpy())
    with torch.no_grad():
        expected = ClassifiersGraph(networks, MEAN, STD)(batch).numpy()
    assert np.allclose(p, expected, atol=1e-5)
    assert len({round(float(column), 4) for column in p[0]}) == 5


def test_a_tile_gives_the_same_whatever_batch_it_is_in(segmenter, classifiers):
    batch = tiles(5)
    for path in (segmenter[1], classifiers[1]):
        together = run(path, batch)
        apart = [run(path, batch[i : i + 1]) for i in range(5)]
        for which, output in enumerate(together):
            single = np.concatenate([one[which] for one in apart])
            assert np.allclose(output, single, atol=1e-6)


@pytest.mark.parametrize("name", ["unet", "deeplabv3plus"])
def test_every_segmenter_exports_as_it_computes(tmp_path, name):
    torch.manual_seed(0)
    network = shaken(build_segmenter(name, width_multiplier=1 / 16))
    export_segmenter(network, tmp_path / "s.onnx", mean=MEAN, std=STD)
    batch = torch.from_numpy(tiles(2))
    _, mask = run(tmp_path / "s.onnx", batch.numpy())
    graph = SegmenterGraph(network, MEAN, STD)
    with torch.no_grad():
        logits = network(graph.normalized(batch))
    margin = (logits[:, 1] - logits[:, 0]).numpy()
    certain = beyond_rounding(margin)
    assert certain.mean() > 0.99
    assert np.array_equal(mask[certain], margin[certain] > 0)


@pytest.mark.parametrize("name", ["resnet50", "densenet121"])
def test_every_kind_of_classifier_exports_as_it_computes(tmp_path, name):
    torch.manual_seed(0)
    network = shaken(build_classifier(name, width_multiplier=1 / 8))
    export_classifiers([network], tmp_path / "c.onnx", mean=MEAN, std=STD)
    batch = torch.from_numpy(tiles(2))
    (p,) = run(tmp_path / "c.onnx", batch.numpy())
    with torch.no_grad():
        expected = ClassifiersGraph([network], MEAN, STD)(batch).numpy()
    assert np.allclose(p, expected, atol=1e-5)
    assert p[0] != p[1]


@pytest.mark.parametrize(
    ("graph", "outputs"),
    [
        ("segmenter", {"tumor_pixels": ("int32", [None]), "mask": ("uint8", [None, 512, 512])}),
        ("classifiers", {"p_strong": ("float32", [None, 5])}),
    ],
)
def test_inputs_and_outputs_are_the_contracts(graph, outputs, request):
    model = onnx.load(request.getfixturevalue(graph)[1])
    onnx.checker.check_model(model)
    assert described(model.graph.input) == {"tiles": ("uint8", [None, 512, 512, 3])}
    assert described(model.graph.output) == outputs


def described(values):
    return {
        value.name: (
            np.dtype(onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)).name,
            [
                None if axis.dim_param else axis.dim_value
                for axis in value.type.tensor_type.shape.dim
            ],
        )
        for value in values
    }
