"""SegNet (Badrinarayanan et al. 2017, 10.1109/TPAMI.2016.2644615), the paper's best segmenter.

The decoder puts each value back at the position where the encoder's max-pooling found it. TensorRT
does not have that operator, so pooling and unpooling are written as strided slices, masks of the
first maximum and a pixel shuffle. The results are bitwise those of `max_pool2d` and `max_unpool2d`,
and the export is plain ONNX.
"""

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

# Channels of the five stages of VGG16.
_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))

MaxPositions = tuple[Tensor, Tensor, Tensor, Tensor]
"""Position of the maximum in each 2 x 2 window, as four bool masks (N, C, H / 2, W / 2).

The masks are in row-major order, and exactly one of them is true for each window."""


def max_pool(x: Tensor) -> tuple[Tensor, MaxPositions]:
    """Apply 2 x 2 max-pooling; of equal values the first in row-major order counts.

    Args:
        x: float32 (N, C, H, W), H and W even.

    Returns:
        The maxima, float32 (N, C, H / 2, W / 2), and their positions.
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


def max_unpool(x: Tensor, positions: MaxPositions) -> Tensor:
    """Put values back at the positions of their maxima, with zeros elsewhere.

    Args:
        x: float32 (N, C, H, W).
        positions: As `max_pool` returned them.

    Returns:
        float32 (N, C, 2H, 2W).
    """
    n, channels, height, width = x.shape
    spread = torch.stack([x * position.to(x.dtype) for position in positions], dim=2)
    return functional.pixel_shuffle(spread.reshape(n, 4 * channels, height, width), 2)


class SegNet(nn.Module):
    """SegNet, the segmenter that the paper selected (section 4.3, Table S1).

    Maps float32 (N, 3, H, W), H and W multiples of 32, to class logits float32 (N, classes, H, W).

    Args:
        classes: Number of output channels.
        width_multiplier: Scales every hidden channel count; 1.0 is the published network.
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

    def encoder_names(self) -> dict[str, str]:
        """Return torchvision's name of each tensor of the encoder, which is VGG16's.

        torchvision numbers VGG16's layers through: a convolution, its batch normalisation, a ReLU,
        and after each stage a pooling layer.
        """
        names, layer = {}, 0
        for stage, convolutions in enumerate(self.encoder):
            for number, module in enumerate(cast(nn.Sequential, convolutions)):
                for tensor in module.state_dict():
                    names[f"encoder.{stage}.{number}.{tensor}"] = f"features.{layer}.{tensor}"
                layer += 1
            layer += 1
        return names

    def forward(self, x: Tensor) -> Tensor:
        positions: list[MaxPositions] = []
        for convolutions in self.encoder:
            x, position = max_pool(convolutions(x))
            positions.append(position)
        for convolutions, position in zip(self.decoder, reversed(positions), strict=True):
            x = convolutions(max_unpool(x, position))
        return x


def _convolutions(*channels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(channels):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers)
