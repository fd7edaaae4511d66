"""DeepLabv3+ (Chen et al. 2018, 10.1007/978-3-030-01234-2_49) on ResNet-101, output stride 16.

HER2Net's paper does not name the backbone. ResNet-101 is one of the two in the DeepLabv3+ paper,
and the one that MONAI has. As published, the last stage is dilated, the atrous rates are 6, 12 and
18, the pyramid and the decoder use depthwise separable convolutions, and the decoder has 48
low-level channels and two 3 x 3 convolutions of 256 channels.
"""

import torch
from monai.networks.nets.resnet import ResNet
from torch import Tensor, nn
from torch.nn import functional

from her2d.research.networks.resnet import resnet

_RATES = (6, 12, 18)
_WIDTH, _LOW_LEVEL = 256, 48


class DeepLabV3Plus(nn.Module):
    """DeepLabv3+ as one of the paper's segmenters (section 4.3, Table S1).

    Maps float32 (N, 3, H, W), H and W multiples of 16, to class logits float32 (N, classes, H, W).

    Args:
        classes: Number of output channels.
        width_multiplier: Scales every hidden channel count; 1.0 is the published network.
    """

    def __init__(self, classes: int = 2, width_multiplier: float = 1.0) -> None:
        super().__init__()
        width, low_level = (max(1, round(c * width_multiplier)) for c in (_WIDTH, _LOW_LEVEL))
        backbone = resnet("resnet101", width_multiplier=width_multiplier)
        shallow, deep = _out_channels(backbone.layer1), _out_channels(backbone.layer4)
        self.stem = nn.Sequential(backbone.conv1, backbone.bn1, nn.ReLU(), backbone.maxpool)
        self.shallow = backbone.layer1
        self.deep = nn.Sequential(backbone.layer2, backbone.layer3, _dilate_last_stage(backbone))
        self.pyramid = AtrousPyramid(deep, width)
        self.low_level = _pointwise(shallow, low_level)
        self.decoder = nn.Sequential(
            _separable(width + low_level, width),
            _separable(width, width),
            nn.Conv2d(width, classes, kernel_size=1),
        )

    def encoder_names(self) -> dict[str, str]:
        """Return torchvision's name of each tensor of the encoder, which is ResNet-101's."""
        parts = {
            "stem.0": "conv1",
            "stem.1": "bn1",
            "shallow": "layer1",
            "deep.0": "layer2",
            "deep.1": "layer3",
            "deep.2": "layer4",
        }
        return {
            f"{own}.{tensor}": f"{published}.{tensor}"
            for own, published in parts.items()
            for tensor in self.get_submodule(own).state_dict()
        }

    def forward(self, x: Tensor) -> Tensor:
        shallow = self.shallow(self.stem(x))
        context = _resize(self.pyramid(self.deep(shallow)), shallow)
        logits = self.decoder(torch.cat([context, self.low_level(shallow)], dim=1))
        return _resize(logits, x)


class AtrousPyramid(nn.Module):
    """Atrous spatial pyramid pooling, float32 (N, C, h, w) to (N, width, h, w).

    The pooled branch has one pixel per image, so batch normalisation needs at least two images per
    training batch.

    Args:
        channels: Number of input channels, C.
        width: Number of output channels.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [
                _pointwise(channels, width),
                *(_separable(channels, width, rate) for rate in _RATES),
            ]
        )
        self.pooled = _pointwise(channels, width)
        self.project = _pointwise((len(self.branches) + 1) * width, width)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.pooled(x.mean(dim=(2, 3), keepdim=True))
        features = [branch(x) for branch in self.branches]
        return torch.as_tensor(self.project(torch.cat([*features, _resize(pooled, x)], dim=1)))


def _dilate_last_stage(backbone: ResNet) -> nn.Module:
    """Return the last stage with its stride replaced by dilation, which keeps the resolution."""
    layer: nn.Module = backbone.layer4
    for module in layer.modules():
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
            if module.kernel_size == (3, 3):
                module.dilation = module.padding = (2, 2)
    return layer


def _out_channels(stage: nn.Module) -> int:
    return [m.out_channels for m in stage.modules() if isinstance(m, nn.Conv2d)][-1]


def _pointwise(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, kernel_size=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()
    )


def _separable(before: int, after: int, rate: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, before, 3, padding=rate, dilation=rate, groups=before, bias=False),
        nn.BatchNorm2d(before),
        nn.ReLU(),
        *_pointwise(before, after),
    )


def _resize(x: Tensor, like: Tensor) -> Tensor:
    return functional.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)
