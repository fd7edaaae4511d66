"""torch: the networks of HER2Net and their ONNX export. The daemon never imports this room."""

from typing import get_args

from torch import nn

from her2d.networks.resnet import ResNetName, resnet
from her2d.networks.segnet import SegNet

__all__ = ["build_classifier", "build_segmenter"]


def build_segmenter(name: str, *, width_multiplier: float = 1.0) -> nn.Module:
    """A two-class segmenter: float (N, 3, 512, 512) -> logits (N, 2, 512, 512).

    Raises:
        ValueError: no segmenter of that name.
    """
    if name == "segnet":
        return SegNet(classes=2, width_multiplier=width_multiplier)
    raise ValueError(f"there is no segmenter {name!r}; choose segnet")


def build_classifier(name: str, *, width_multiplier: float = 1.0) -> nn.Module:
    """A two-class tile classifier: float (N, 3, 512, 512) -> logits (N, 2), 1 being strong.

    Raises:
        ValueError: no classifier of that name.
    """
    for known in get_args(ResNetName):
        if name == known:
            return resnet(known, width_multiplier=width_multiplier)
    raise ValueError(f"there is no classifier {name!r}; choose {', '.join(get_args(ResNetName))}")
