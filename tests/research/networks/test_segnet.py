"""SegNet as published, with pooling that TensorRT supports."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from her2d.research.networks.build import build_segmenter
from her2d.research.networks.segnet import max_pool, max_unpool


@settings(deadline=None, max_examples=60)
@given(
    shape=st.tuples(*[st.integers(1, 3)] * 2, *[st.integers(1, 6)] * 2),
    levels=st.integers(1, 4),
    seed=st.integers(0, 2**31),
)
def test_pooling_and_unpooling_are_bitwise_torchs_ties_included(shape, levels, seed):
    n, channels, height, width = shape
    generator = torch.Generator().manual_seed(seed)
    # Few distinct values, including zero, give many ties, as after a ReLU.
    x = torch.randint(0, levels, (n, channels, 2 * height, 2 * width), generator=generator).float()
    pooled, positions = max_pool(x)
    expected, indices = functional.max_pool2d(x, 2, return_indices=True)
    assert torch.equal(pooled, expected)
    marked = pooled + 1
    assert torch.equal(max_unpool(marked, positions), functional.max_unpool2d(marked, indices, 2))


def test_the_published_network_has_its_parameters():
    segnet = build_segmenter("segnet")
    stages = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    encoder = sum(9 * a * b + 3 * b for a, b in pairwise(stages))
    back = [512, 512, 512, 512, 512, 512, 256, 256, 256, 128, 128, 64, 64]
    decoder = sum(9 * a * b + 3 * b for a, b in pairwise(back))
    last = 9 * 64 * 2 + 2
    assert sum(p.numel() for p in segnet.parameters()) == encoder + decoder + last


def test_a_width_multiplier_scales_every_hidden_channel():
    slim = build_segmenter("segnet", width_multiplier=1 / 8)
    channels = [m.out_channels for m in slim.modules() if isinstance(m, torch.nn.Conv2d)]
    full = [
        m.out_channels
        for m in build_segmenter("segnet").modules()
        if isinstance(m, torch.nn.Conv2d)
    ]
    assert channels[:-1] == [c // 8 for c in full[:-1]]
    assert channels[-1] == full[-1] == 2


def test_the_output_has_the_inputs_size():
    slim = build_segmenter("segnet", width_multiplier=1 / 16).eval()
    assert slim(torch.zeros(2, 3, 64, 96)).shape == (2, 2, 64, 96)


def test_an_unknown_segmenter_is_refused():
    with pytest.raises(ValueError, match="choose unet, segnet"):
        build_segmenter("magic")
