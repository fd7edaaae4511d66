"""Weights from a local safetensors file."""

import pytest
import torch

from her2d.networks import CLASSIFIERS, SEGMENTERS, build_classifier, build_segmenter
from her2d.networks.resnet import resnet
from her2d.networks.weights import save_weights


@pytest.mark.parametrize("name", [*SEGMENTERS, *CLASSIFIERS])
def test_a_network_comes_back_as_it_was_saved(tmp_path, name):
    build = build_segmenter if name in SEGMENTERS else build_classifier
    saved = build(name, width_multiplier=1 / 16)
    save_weights(saved, tmp_path / "w.safetensors")
    again = build(name, width_multiplier=1 / 16, weights=tmp_path / "w.safetensors")
    for key, tensor in saved.state_dict().items():
        assert torch.equal(again.state_dict()[key], tensor), key


def test_a_last_layer_of_other_classes_is_left_as_it_begins(tmp_path):
    imagenet = resnet("resnet18", classes=1000, width_multiplier=1 / 8)
    save_weights(imagenet, tmp_path / "w.safetensors")
    network = build_classifier(
        "resnet18", width_multiplier=1 / 8, weights=tmp_path / "w.safetensors"
    )
    assert torch.equal(network.conv1.weight, imagenet.conv1.weight)
    assert network.fc.out_features == 2


def test_another_networks_weights_are_refused(tmp_path):
    save_weights(build_classifier("resnet34", width_multiplier=1 / 8), tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="of another network"):
        build_classifier("resnet18", width_multiplier=1 / 8, weights=tmp_path / "w.safetensors")


def test_a_file_that_holds_no_tensors_is_refused(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"pickle?")
    with pytest.raises(ValueError, match="cannot be read"):
        build_classifier("resnet18", weights=tmp_path / "w.safetensors")
