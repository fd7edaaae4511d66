"""Weights from a local safetensors file."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from her2d.research.networks.build import (
    CLASSIFIERS,
    SEGMENTERS,
    build_classifier,
    build_segmenter,
)
from her2d.research.networks.densenet import densenet121
from her2d.research.networks.resnet import resnet
from her2d.research.networks.weights import save_weights


@pytest.mark.parametrize("name", [*SEGMENTERS, *CLASSIFIERS])
@pytest.mark.slow
def test_a_network_comes_back_as_it_was_saved(tmp_path, name):
    build = build_segmenter if name in SEGMENTERS else build_classifier
    saved = build(name, width_multiplier=1 / 16)
    save_weights(saved, tmp_path / "w.safetensors")
    again = build(name, width_multiplier=1 / 16, weights=tmp_path / "w.safetensors")
    for key, tensor in saved.state_dict().items():
        assert torch.equal(again.state_dict()[key], tensor), key


def test_a_last_layer_with_other_classes_keeps_its_initial_weights(tmp_path):
    imagenet = resnet("resnet18", classes=1000, width_multiplier=1 / 8)
    save_weights(imagenet, tmp_path / "w.safetensors")
    network = build_classifier(
        "resnet18", width_multiplier=1 / 8, weights=tmp_path / "w.safetensors"
    )
    assert torch.equal(network.conv1.weight, imagenet.conv1.weight)
    assert network.fc.out_features == 2


def published(network: nn.Module, path: Path, renamed: dict[str, str]) -> None:
    """Save a network as torchvision does, without batch counts and with torchvision's names."""
    tensors = {}
    for name, tensor in network.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            for own, other in renamed.items():
                name = re.sub(own, other, name)  # noqa: PLW2901
            tensors[name] = tensor.contiguous()
    save_file(tensors, path)


def test_torchvisions_resnet_weights_load(tmp_path):
    imagenet = resnet("resnet18", classes=1000, width_multiplier=1 / 8)
    published(imagenet, tmp_path / "w.safetensors", {})
    network = build_classifier(
        "resnet18", width_multiplier=1 / 8, weights=tmp_path / "w.safetensors"
    )
    assert torch.equal(network.layer4[1].bn2.weight, imagenet.layer4[1].bn2.weight)
    assert int(network.bn1.num_batches_tracked) == 0


@pytest.mark.parametrize("layer", [r".\1.\2.", r".\1\2."])
def test_torchvisions_densenet_weights_load_under_either_naming(tmp_path, layer):
    imagenet = densenet121(classes=1000, width_multiplier=1 / 8)
    names = {r"\.layers\.(norm|conv)(\d)\.": layer, r"class_layers\.out": "classifier"}
    published(imagenet, tmp_path / "w.safetensors", names)
    network = build_classifier(
        "densenet121", width_multiplier=1 / 8, weights=tmp_path / "w.safetensors"
    )
    last = "features.denseblock4.denselayer16.layers.conv2.weight"
    assert torch.equal(network.state_dict()[last], imagenet.state_dict()[last])


def test_another_networks_weights_are_refused(tmp_path):
    save_weights(build_classifier("resnet34", width_multiplier=1 / 8), tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="belong to another network"):
        build_classifier("resnet18", width_multiplier=1 / 8, weights=tmp_path / "w.safetensors")


def test_a_file_without_tensors_is_refused(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"pickle?")
    with pytest.raises(ValueError, match="cannot be read"):
        build_classifier("resnet18", weights=tmp_path / "w.safetensors")


def vgg16_bn(width_multiplier: float) -> nn.Module:
    """The layers of torchvision's VGG16 with batch normalisation, with its names."""
    layers: list[nn.Module] = []
    before = 3
    for stage in ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)):
        for channels in stage:
            after = max(1, round(channels * width_multiplier))
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
            before = after
        layers.append(nn.MaxPool2d(2))
    head = nn.Sequential(nn.Linear(before * 49, 16), nn.ReLU(), nn.Linear(16, 1000))
    return nn.ModuleDict({"features": nn.Sequential(*layers), "classifier": head})


def test_a_segnets_encoder_begins_with_a_vgg16(tmp_path):
    imagenet = vgg16_bn(1 / 16)
    nn.init.constant_(imagenet["features"][41].running_mean, 7.0)
    published(imagenet, tmp_path / "w.safetensors", {})
    network = build_segmenter("segnet", width_multiplier=1 / 16, weights=tmp_path / "w.safetensors")
    convolutions = [m for m in imagenet["features"] if isinstance(m, nn.Conv2d)]
    own = [m for m in network.encoder.modules() if isinstance(m, nn.Conv2d)]
    assert len(own) == len(convolutions) == 13
    for one, other in zip(own, convolutions, strict=True):
        assert torch.equal(one.weight, other.weight)
    last = [m for m in network.encoder.modules() if isinstance(m, nn.BatchNorm2d)][-1]
    assert (last.running_mean == 7).all()


def test_a_deeplabs_encoder_begins_with_a_resnet101(tmp_path):
    imagenet = resnet("resnet101", classes=1000, width_multiplier=1 / 16)
    published(imagenet, tmp_path / "w.safetensors", {})
    network = build_segmenter(
        "deeplabv3plus", width_multiplier=1 / 16, weights=tmp_path / "w.safetensors"
    )
    assert torch.equal(network.stem[0].weight, imagenet.conv1.weight)
    assert torch.equal(network.deep[2][2].conv3.weight, imagenet.layer4[2].conv3.weight)


@pytest.mark.parametrize("name", ["segnet", "deeplabv3plus"])
def test_an_encoder_of_another_network_is_refused(tmp_path, name):
    published(resnet("resnet50", width_multiplier=1 / 16), tmp_path / "w.safetensors", {})
    with pytest.raises(ValueError, match="neither to this network nor to its encoder"):
        build_segmenter(name, width_multiplier=1 / 16, weights=tmp_path / "w.safetensors")


def test_a_unet_has_no_encoder_to_begin_with(tmp_path):
    published(resnet("resnet50", width_multiplier=1 / 16), tmp_path / "w.safetensors", {})
    with pytest.raises(ValueError, match="belong to another network"):
        build_segmenter("unet", width_multiplier=1 / 16, weights=tmp_path / "w.safetensors")
