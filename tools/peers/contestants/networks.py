"""SegNet and ResNets as a researcher writes them in plain PyTorch, with a bundle's weights.

A bundle's graphs have batch normalisation folded into their convolutions, which favours these
networks: those that came out of training would normalise as well.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional


class Weights(NamedTuple):
    """A bundle's weights, as `tools.peers.weights` wrote them.

    Attributes:
        segmenter, classifiers: tensors by the names that they have in the graphs.
        mean, std: float32 (3,), the normalisation on the scale 0 to 1.
        tile_cut: probability above which the forest calls a tile strong.
    """

    segmenter: dict[str, Tensor]
    classifiers: dict[str, Tensor]
    mean: Tensor
    std: Tensor
    tile_cut: float


def load_weights(path: Path) -> Weights:
    """Read the file that `tools.peers.weights` wrote."""
    with np.load(path) as stored:
        parts = {
            part: {
                name.removeprefix(f"{part}/"): torch.from_numpy(stored[name])
                for name in stored.files
                if name.startswith(f"{part}/")
            }
            for part in ("segmenter", "classifiers")
        }
        return Weights(
            **parts,
            mean=torch.from_numpy(stored["mean"]),
            std=torch.from_numpy(stored["std"]),
            tile_cut=float(stored["tile_cut"]),
        )


class SegNet(nn.Module):
    """SegNet with PyTorch's own max-pooling and max-unpooling: (N, 3, H, W) to logits."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        super().__init__()
        self.encoder = nn.ModuleList(
            _convolutions(weights, f"network.encoder.{stage}.") for stage in range(5)
        )
        self.decoder = nn.ModuleList(
            _convolutions(weights, f"network.decoder.{stage}.") for stage in range(5)
        )

    def forward(self, x: Tensor) -> Tensor:
        places = []
        for convolutions in self.encoder:
            for convolution in convolutions:  # type: ignore[attr-defined]
                x = functional.relu(convolution(x))
            x, place = functional.max_pool2d(x, 2, return_indices=True)
            places.append(place)
        for convolutions, place in zip(self.decoder, reversed(places), strict=True):
            x = functional.max_unpool2d(x, place, [2, 2])
            for convolution in convolutions:  # type: ignore[attr-defined]
                # The last one gives the logits.
                is_last = convolution.out_channels == 2
                x = convolution(x) if is_last else functional.relu(convolution(x))
        return x


class ResNet(nn.Module):
    """A ResNet of basic or bottleneck blocks: (N, 3, H, W) to logits (N, 2)."""

    def __init__(self, weights: dict[str, Tensor], prefix: str) -> None:
        super().__init__()
        self.stem = _convolution(weights, f"{prefix}conv1", stride=2, padding=3)
        self.blocks = nn.ModuleList()
        for layer in range(1, 5):
            block = 0
            while f"{prefix}layer{layer}.{block}.conv1.weight" in weights:
                stride = 2 if layer > 1 and block == 0 else 1
                name = f"{prefix}layer{layer}.{block}."
                self.blocks.append(_Block(weights, name, stride))
                block += 1
        self.head = _parameters(
            nn.Linear(*weights[f"{prefix}fc.weight"].shape[::-1]), weights, f"{prefix}fc"
        )

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(functional.relu(self.stem(x)), 3, stride=2, padding=1)
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(x.mean(dim=(2, 3)))
        return logits


class _Block(nn.Module):
    def __init__(self, weights: dict[str, Tensor], prefix: str, stride: int) -> None:
        super().__init__()
        shapes: tuple[tuple[str, int, int], ...]
        if f"{prefix}conv3.weight" in weights:
            shapes = (("conv1", 1, 0), ("conv2", stride, 1), ("conv3", 1, 0))
        else:
            shapes = (("conv1", stride, 1), ("conv2", 1, 1))
        self.convolutions = nn.ModuleList(
            _convolution(weights, f"{prefix}{name}", stride=step, padding=padding)
            for name, step, padding in shapes
        )
        shortcut = f"{prefix}downsample.0"
        self.shortcut = (
            _convolution(weights, shortcut, stride=stride, padding=0)
            if f"{shortcut}.weight" in weights
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        way = x
        for convolution in self.convolutions[:-1]:
            way = functional.relu(convolution(way))
        return functional.relu(self.convolutions[-1](way) + self.shortcut(x))


def build_segmenter(weights: Weights) -> SegNet:
    """Return the segmenter, ready to run."""
    return SegNet(weights.segmenter).eval()


def build_classifiers(weights: Weights) -> list[ResNet]:
    """Return the five sub-classifiers, ready to run."""
    return [ResNet(weights.classifiers, f"networks.{fold}.").eval() for fold in range(5)]


def normalized(tiles: NDArray[np.uint8], weights: Weights) -> Tensor:
    """Return uint8 (N, H, W, 3) tiles as the networks want them, float32 (N, 3, H, W)."""
    x = torch.from_numpy(tiles).permute(0, 3, 1, 2).float().div(255)
    return (x - weights.mean[None, :, None, None]) / weights.std[None, :, None, None]


def _convolutions(weights: dict[str, Tensor], prefix: str) -> nn.ModuleList:
    names = sorted(
        (
            name.removesuffix(".weight")
            for name in weights
            if name.startswith(prefix) and name.endswith(".weight")
        ),
        key=lambda name: [int(part) for part in name.removeprefix(prefix).split(".")],
    )
    return nn.ModuleList(_convolution(weights, name, stride=1, padding=1) for name in names)


def _convolution(weights: dict[str, Tensor], name: str, *, stride: int, padding: int) -> nn.Module:
    out, into, side, _ = weights[f"{name}.weight"].shape
    made = nn.Conv2d(into, out, side, stride=stride, padding=padding)
    return _parameters(made, weights, name)


def _parameters(module: nn.Module, weights: dict[str, Tensor], name: str) -> nn.Module:
    module.load_state_dict({key: weights[f"{name}.{key}"] for key in ("weight", "bias")})
    return module
