"""ResNets (He et al. 2016, 10.1109/CVPR.2016.90) from MONAI, set to be the published ones.

MONAI's defaults are made for volumes: a stride-1 stem and biased shortcut convolutions. The
published network has a stride-2 stem and none of those biases.
"""

from typing import Literal

from monai.networks.nets.resnet import ResNet, ResNetBlock, ResNetBottleneck

ResNetName = Literal["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]

_BLOCKS: dict[str, tuple[type[ResNetBlock] | type[ResNetBottleneck], list[int]]] = {
    "resnet18": (ResNetBlock, [2, 2, 2, 2]),
    "resnet34": (ResNetBlock, [3, 4, 6, 3]),
    "resnet50": (ResNetBottleneck, [3, 4, 6, 3]),
    "resnet101": (ResNetBottleneck, [3, 4, 23, 3]),
    "resnet152": (ResNetBottleneck, [3, 8, 36, 3]),
}


def resnet(name: ResNetName, *, classes: int = 2, width_multiplier: float = 1.0) -> ResNet:
    """float (N, 3, H, W) -> logits float (N, classes).

    Args:
        name: the published depth.
        classes: outputs.
        width_multiplier: scales every channel count; 1.0 is the published network.
    """
    block, layers = _BLOCKS[name]
    planes = [max(1, round(channels * width_multiplier)) for channels in (64, 128, 256, 512)]
    return ResNet(
        block,
        layers,
        planes,
        spatial_dims=2,
        n_input_channels=3,
        num_classes=classes,
        conv1_t_stride=2,
        bias_downsample=False,
    )
