"""DeepLabv3+ on ResNet-101."""

import torch

from her2d.research.networks.build import build_segmenter


def pointwise(before: int, after: int) -> int:
    return before * after + 2 * after


def separable(before: int, after: int) -> int:
    return 9 * before + 2 * before + pointwise(before, after)


def test_the_published_network_has_its_parameters():
    resnet101_without_its_last_layer = 44_549_160 - 2_049_000
    pyramid = 2 * pointwise(2048, 256) + 3 * separable(2048, 256) + pointwise(5 * 256, 256)
    decoder = pointwise(256, 48) + separable(256 + 48, 256) + separable(256, 256) + 2 * 256 + 2
    with torch.device("meta"):
        network = build_segmenter("deeplabv3plus")
    expected = resnet101_without_its_last_layer + pyramid + decoder
    assert sum(p.numel() for p in network.parameters()) == expected


def test_features_are_at_a_quarter_and_a_sixteenth_of_the_input():
    network = build_segmenter("deeplabv3plus", width_multiplier=1 / 16).eval()
    sizes = {}
    for name in ("shallow", "deep", "pyramid"):
        getattr(network, name).register_forward_hook(
            lambda _module, _input, output, name=name: sizes.update({name: tuple(output.shape[2:])})
        )
    assert network(torch.zeros(1, 3, 128, 256)).shape == (1, 2, 128, 256)
    assert sizes == {"shallow": (32, 64), "deep": (8, 16), "pyramid": (8, 16)}
