"""SegNet (Badrinarayanan et al. 2017, 10.1109/TPAMI.2016.2644615), the paper's best segmenter.

The decoder puts each value back where its encoder's max-pooling found it. TensorRT has no such
operator, so pooling and unpooling are written as strided slices, first-maximum masks and a pixel
shuffle: bitwise what `max_pool2d` and `max_unpool2d` give, and plain ONNX when exported.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

# VGG16's five stages.
_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))

BufferPool = tuple[Tensor, Tensor, Tensor, Tensor]
"""Where in each 2 x 2 window the maximum was: four bool masks, row-major, exactly one true."""


def max_pool(x: Tensor) -> tuple[Tensor, BufferPool]:
    """2 x 2 max-pooling of float (N, C, H, W), H and W even, and where each maximum was.

    Of equal values the first in row-major order counts, as in `max_pool2d`.
    """
    corners = [x[:, :, row::2, column::2] for row in (0, 1) for column in (0, 1)]
    pooled = torch.maximum(
        torch.maximum(corners[0], corners[1]), torch.maximum(corners[2], corners[3])
    )
    first = corners[0] == pooled
    second = (corners[1] == pooled) & ~first
    third = (corners[2] == pooled) & ~(first | second)
    fourth = ~(first | second | third)
    return pooled, (first, second, third, fourth)


def max_unpool(x: Tensor, places: BufferPool) -> Tensor:
    """Put float (N, C, H, W) back where it came from, zeros elsewhere: (N, C, 2H, 2W)."""
    n, channels, height, width = x.shape
    spread = torch.stack([x * place.to(x.dtype) for place in places], dim=2)
    return functional.pixel_shuffle(spread.reshape(n, 4 * channels, height, width), 2)


class SegNet(nn.Module):
    """float (N, 3, H, W), H and W multiples of 32 -> class logits float (N, classes, H, W).

    Args:
        classes: output channels.
        width_multiplier: scales every hidden channel count; 1.0 is the published network.
    """

    def __init__(self, classes: int = 2, width_multiplier: float = 1.0) -> None:
        super().__init__()
        stages = [[max(1, round(c * width_multiplier)) for c in stage] for stage in _STAGES]
        self.encoder = nn.ModuleList()
        channels = 3
        for stage in stages:
            self.encoder.append(_convolutions(channels, *stage))
            channels = stage[-1]
        self.decoder = nn.ModuleList()
        for deeper, shallower in zip(stages[:0:-1], stages[-2::-1], strict=True):
            self.decoder.append(_convolutions(*deeper, shallower[-1]))
        first = stages[0]
        self.decoder.append(
            nn.Sequential(
                _convolutions(*first), nn.Conv2d(first[-1], classes, kernel_size=3, padding=1)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        places: list[BufferPool] = []
        for convolutions in self.encoder:
            x, place = max_pool(convolutions(x))
            places.append(place)
        for convolutions, place in zip(self.decoder, reversed(places), strict=True):
            x = convolutions(max_unpool(x, place))
        return x


def _convolutions(*channels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(channels):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers)
