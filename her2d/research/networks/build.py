"""Build the paper's networks by name, optionally with weights from a file."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import get_args

from torch import nn

from her2d.research.networks.deeplab import DeepLabV3Plus
from her2d.research.networks.densenet import densenet121
from her2d.research.networks.resnet import ResNetName, resnet
from her2d.research.networks.segnet import SegNet
from her2d.research.networks.unet import UNet
from her2d.research.networks.vit import VisionTransformer, VitName
from her2d.research.networks.weights import load_weights

__all__ = ["CLASSIFIERS", "SEGMENTERS", "build_classifier", "build_segmenter"]

SEGMENTERS: dict[str, Callable[..., nn.Module]] = {
    "unet": UNet,
    "segnet": SegNet,
    "deeplabv3plus": DeepLabV3Plus,
}
"""The paper's pixel-level tumour detectors (section 4.3, Table S1)."""

CLASSIFIERS: dict[str, Callable[..., nn.Module]] = {
    **{name: partial(resnet, name) for name in get_args(ResNetName)},
    "densenet121": densenet121,
    **{name: partial(VisionTransformer, name) for name in get_args(VitName)},
}
"""The paper's tile-level classifiers (section 4.4, Table S2), and two Vision Transformers."""


def build_segmenter(
    name: str, *, width_multiplier: float = 1.0, weights: Path | None = None
) -> nn.Module:
    """Build a two-class tumour segmenter (paper, section 4.3).

    Args:
        name: A key of SEGMENTERS.
        width_multiplier: Scales hidden channel counts; 1.0 is the published network.
        weights: Safetensors file with initial weights; None initialises at random.

    Returns:
        A module that maps float32 (N, 3, 512, 512) to logits float32 (N, 2, 512, 512). Channel 1
        is tumour.

    Raises:
        ValueError: There is no such segmenter, or the weights belong to another network.
    """
    return _build(SEGMENTERS, "segmenter", name, width_multiplier, weights)


def build_classifier(
    name: str, *, width_multiplier: float = 1.0, weights: Path | None = None
) -> nn.Module:
    """Build a two-class tile classifier (paper, section 4.4).

    Args:
        name: A key of CLASSIFIERS.
        width_multiplier: Scales hidden channel counts; 1.0 is the published network.
        weights: Safetensors file with initial weights; None initialises at random.

    Returns:
        A module that maps float32 (N, 3, 512, 512) to logits float32 (N, 2). Channel 1 is high
        HER2 expression.

    Raises:
        ValueError: There is no such classifier, or the weights belong to another network.
    """
    return _build(CLASSIFIERS, "classifier", name, width_multiplier, weights)


def _build(
    known: dict[str, Callable[..., nn.Module]],
    kind: str,
    name: str,
    width_multiplier: float,
    weights: Path | None,
) -> nn.Module:
    if name not in known:
        raise ValueError(f"there is no {kind} {name!r}; choose {', '.join(known)}")
    network = known[name](classes=2, width_multiplier=width_multiplier)
    if weights is not None:
        load_weights(network, weights)
    return network
