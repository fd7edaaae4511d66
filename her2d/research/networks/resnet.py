"""ResNets (He et al. 2016, 10.1109/CVPR.2016.90), MONAI's configured as published.

MONAI's defaults are meant for volumes, with a stride-1 stem and biased shortcut convolutions. The
published network has a stride-2 stem and no such biases.
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
    """Build a ResNet, one of the paper's tile classifiers (section 4.4, Table S2).

    Args:
        name: One of the published depths.
        classes: Number of outputs.
        width_multiplier: Scales every channel count; 1.0 is the published network.

    Returns:
        A module that maps float32 (N, 3, H, W) to logits float32 (N, classes).
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
