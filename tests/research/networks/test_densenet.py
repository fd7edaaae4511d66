"""DenseNet121 as published."""

import torch

from her2d.research.networks.build import build_classifier
from her2d.research.networks.densenet import densenet121


def test_with_a_thousand_classes_the_parameters_are_the_published_number():
    with torch.device("meta"):
        network = densenet121(classes=1000)
    assert sum(p.numel() for p in network.parameters()) == 7_978_856


def test_the_feature_maps_have_the_published_sizes():
    network = build_classifier("densenet121", width_multiplier=1 / 8).eval()
    sizes = []
    for name in ("pool0", "transition1", "transition2", "transition3", "denseblock4"):
        getattr(network.features, name).register_forward_hook(
            lambda _module, _input, output: sizes.append(tuple(output.shape[2:]))
        )
    network(torch.zeros(1, 3, 224, 224))
    assert sizes == [(56, 56), (28, 28), (14, 14), (7, 7), (7, 7)]


def test_a_classifier_has_two_classes():
    slim = build_classifier("densenet121", width_multiplier=1 / 8)
    assert slim(torch.zeros(2, 3, 64, 64)).shape == (2, 2)
