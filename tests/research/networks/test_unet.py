"""U-Net as published."""

from itertools import pairwise

import torch

from her2d.research.networks.build import build_segmenter


def convolution(side: int, before: int, after: int) -> int:
    return side * side * before * after + after


def test_the_published_network_has_23_convolutional_layers():
    kinds = (torch.nn.Conv2d, torch.nn.ConvTranspose2d)
    assert sum(isinstance(m, kinds) for m in build_segmenter("unet").modules()) == 23


def test_the_published_network_has_its_parameters():
    # Figure 1 of Ronneberger et al. 2015, its input of three channels instead of one.
    stages = [3, 64, 128, 256, 512, 1024]
    down = sum(convolution(3, a, b) + convolution(3, b, b) for a, b in pairwise(stages))
    up = sum(
        convolution(2, 2 * c, c) + convolution(3, 2 * c, c) + convolution(3, c, c)
        for c in (512, 256, 128, 64)
    )
    unet = build_segmenter("unet")
    assert sum(p.numel() for p in unet.parameters()) == down + up + convolution(1, 64, 2)
    assert down + up + convolution(1, 64, 2) == 31_031_810


def test_the_output_has_the_inputs_size():
    slim = build_segmenter("unet", width_multiplier=1 / 16).eval()
    assert slim(torch.zeros(2, 3, 64, 96)).shape == (2, 2, 64, 96)
