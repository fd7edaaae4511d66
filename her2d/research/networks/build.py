"""torch: the networks of HER2Net and their ONNX export. The daemon never imports this room."""

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
}
"""The paper's tile-level classifiers (section 4.4, Table S2)."""


def build_segmenter(
    name: str, *, width_multiplier: float = 1.0, weights: Path | None = None
) -> nn.Module:
    """A two-class segmenter: float (N, 3, 512, 512) -> logits (N, 2, 512, 512).

    Args:
        name: a key of SEGMENTERS.
        width_multiplier: scales hidden channel counts; 1.0 is the published network.
        weights: a safetensors file to begin with.

    Raises:
        ValueError: no segmenter of that name, or the weights are not its.
    """
    return _built(SEGMENTERS, "segmenter", name, width_multiplier, weights)


def build_classifier(
    name: str, *, width_multiplier: float = 1.0, weights: Path | None = None
) -> nn.Module:
    """A two-class tile classifier: float (N, 3, 512, 512) -> logits (N, 2), 1 being strong.

    Args:
        name: a key of CLASSIFIERS.
        width_multiplier: scales hidden channel counts; 1.0 is the published network.
        weights: a safetensors file to begin with.

    Raises:
        ValueError: no classifier of that name, or the weights are not its.
    """
    return _built(CLASSIFIERS, "classifier", name, width_multiplier, weights)


def _built(
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
