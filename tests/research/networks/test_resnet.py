"""MONAI's ResNets, configured as published."""

import pytest
import torch

from her2d.research.networks.build import build_classifier
from her2d.research.networks.resnet import resnet


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("resnet18", 11_689_512),
        ("resnet34", 21_797_672),
        ("resnet50", 25_557_032),
        ("resnet101", 44_549_160),
        ("resnet152", 60_192_808),
    ],
)
def test_with_a_thousand_classes_the_parameters_are_the_published_number(name, parameters):
    with torch.device("meta"):
        network = resnet(name, classes=1000)
    assert sum(p.numel() for p in network.parameters()) == parameters


def test_the_feature_maps_have_the_published_sizes():
    network = build_classifier("resnet18").eval()
    sizes = {}
    for name in ("conv1", "maxpool", "layer1", "layer2", "layer3", "layer4"):
        getattr(network, name).register_forward_hook(
            lambda _module, _input, output, name=name: sizes.update({name: tuple(output.shape[1:])})
        )
    network(torch.zeros(1, 3, 224, 224))
    assert sizes == {
        "conv1": (64, 112, 112),
        "maxpool": (64, 56, 56),
        "layer1": (64, 56, 56),
        "layer2": (128, 28, 28),
        "layer3": (256, 14, 14),
        "layer4": (512, 7, 7),
    }


def test_a_classifier_has_two_classes():
    assert build_classifier("resnet18", width_multiplier=1 / 8)(
        torch.zeros(2, 3, 64, 64)
    ).shape == (2, 2)


def test_an_unknown_classifier_is_refused():
    with pytest.raises(ValueError, match="choose resnet18"):
        build_classifier("magic")
