"""What makes tiles' features: a classifier of the study, or an ONNX graph that a user brings."""

import numpy as np
import onnxruntime
import pytest
import torch
from encoder_graphs import NCHW, NHWC, write_encoder
from onnx import TensorProto
from torch import nn

from her2d.research.networks.build import build_classifier
from her2d.research.networks.export import Normalized, export_features
from her2d.research.training.encoders import EncoderError, OnnxEncoder, penultimate


def tiles(count: int) -> np.ndarray:
    colors = np.arange(count * 3, dtype=np.uint8).reshape(count, 1, 1, 3) * 20
    return np.broadcast_to(colors, (count, 512, 512, 3)).copy()


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "vit_b_32"])
def test_features_of_a_classifier_are_what_its_last_layer_reads(name):
    torch.manual_seed(0)
    network = build_classifier(name, width_multiplier=1 / 16).eval()
    *_, last = (layer for layer in network.modules() if isinstance(layer, nn.Linear))
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        found = penultimate(network, x)
        assert found.shape == (2, last.in_features)
        assert torch.allclose(last(found), network(x), atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "layout", "dtype"),
    [
        (NHWC, "NHWC", TensorProto.UINT8),
        (NCHW, "NCHW", TensorProto.UINT8),
        (NCHW, "NCHW", TensorProto.FLOAT),
        (("N", "rows", "columns", 3), "NHWC", TensorProto.FLOAT16),
        ((1, 3, 512, 512), "NCHW", TensorProto.FLOAT),
    ],
)
def test_any_layout_type_and_batch_gives_the_same_features(tmp_path, shape, layout, dtype):
    encoder = OnnxEncoder(write_encoder(tmp_path, shape, dtype=dtype, layout=layout))
    scale = 1 if dtype == TensorProto.UINT8 else 255
    expected = tiles(3)[:, 0, 0] / scale
    found = encoder.features(tiles(3))
    assert found.shape == (3, 1, 3)
    assert np.allclose(found[:, 0], expected, rtol=2e-3)


def test_a_float_input_is_normalised_as_described(tmp_path):
    more = "mean = [0.5, 0.5, 0.5]\nstd = [0.5, 0.25, 0.5]"
    encoder = OnnxEncoder(write_encoder(tmp_path, NCHW, more=more))
    expected = (tiles(2)[:, 0, 0] / 255 - 0.5) / (0.5, 0.25, 0.5)
    assert np.allclose(encoder.features(tiles(2))[:, 0], expected, atol=1e-3)


def test_tiles_are_made_smaller_only_if_the_description_says_so(tmp_path):
    small = ("N", 3, 224, 224)
    with pytest.raises(EncoderError, match=r"takes 224 x 224 pixels.* Set resize = true"):
        OnnxEncoder(write_encoder(tmp_path, small))
    encoder = OnnxEncoder(write_encoder(tmp_path, small, more="resize = true"))
    assert np.allclose(encoder.features(tiles(1))[0, 0], tiles(1)[0, 0, 0] / 255, atol=1e-4)


def test_another_graph_or_description_has_another_digest(tmp_path):
    digests = {
        OnnxEncoder(write_encoder(tmp_path, shape, more=more)).digest
        for shape, more in ((NCHW, ""), (NCHW, "resize = true"), ((1, 3, 512, 512), ""))
    }
    assert len(digests) == 3


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"shape": NHWC}, "with the layout NCHW the encoder takes 512 channels"),
        ({"shape": (4, 3, 512, 512)}, "takes batches of 4 only"),
        ({"shape": (*NCHW, 1)}, r"one input, a batch of pictures. It has x"),
        ({"shape": NCHW, "dtype": TensorProto.INT64}, "takes tensor.int64"),
        ({"shape": NCHW, "keep": True}, r"one vector for each tile.* It gives \(2, 3, 1, 1\)"),
        (
            {"shape": NCHW, "dtype": TensorProto.UINT8, "more": "mean = [0.0, 0.0, 0.0]"},
            "mean and std are for a float input",
        ),
        ({"shape": NCHW, "more": "std = [0.0, 1.0, 1.0]"}, "std.0: Input should be greater than 0"),
        ({"shape": NCHW, "more": "sise = 224"}, "sise: Extra inputs are not permitted"),
    ],
)
def test_an_encoder_that_does_not_fit_is_refused_with_one_sentence(tmp_path, given, said):
    with pytest.raises(EncoderError, match=said) as refused:
        OnnxEncoder(write_encoder(tmp_path, **given))
    assert "\n" not in str(refused.value)


def test_a_missing_graph_and_one_that_is_none_are_refused(tmp_path):
    path = write_encoder(tmp_path, NCHW)
    (tmp_path / "encoder.onnx").write_bytes(b"weights?")
    with pytest.raises(EncoderError, match="is not an ONNX graph that can be run"):
        OnnxEncoder(path)
    (tmp_path / "encoder.onnx").unlink()
    with pytest.raises(EncoderError, match="There is no encoder"):
        OnnxEncoder(path)
    with pytest.raises(EncoderError, match="Cannot read the encoder's description"):
        OnnxEncoder(tmp_path / "other.toml")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "vit_b_32"])
def test_the_exported_features_are_what_the_last_layer_reads(name, tmp_path):
    torch.manual_seed(1)
    networks = [build_classifier(name, width_multiplier=1 / 16).eval() for _ in range(2)]
    mean, std = (0.7, 0.6, 0.7), (0.2, 0.2, 0.2)
    path = tmp_path / "encoder.onnx"
    export_features(networks, path, mean=mean, std=std)
    tiles = np.random.default_rng(1).integers(0, 256, (2, 512, 512, 3), np.uint8)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(["features"], {"tiles": tiles})
    with torch.inference_mode():
        x = Normalized(mean, std)(torch.from_numpy(tiles))
        expected = torch.stack([penultimate(network, x) for network in networks], dim=1)
        assert networks[0](x).shape == (2, 2)  # it stays whole
    assert found.shape == expected.shape
    assert np.allclose(found, expected.numpy(), atol=1e-4, rtol=1e-4)
