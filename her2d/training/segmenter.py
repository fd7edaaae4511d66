"""Training the pixel-level tumour detector (paper, section 4.3)."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from her2d.networks import build_segmenter
from her2d.networks.export import Normalized
from her2d.training.augment import augmented
from her2d.training.optimise import optimise
from her2d.training.tiles import TILE, TileSet

_CROP = 256


def train_segmenter(
    tiles: TileSet,
    *,
    width_multiplier: float,
    mean: Sequence[float],
    std: Sequence[float],
    steps: int,
    batch: int = 12,
    learning_rate: float = 3e-3,
    seed: int,
    progress: Callable[[float], None] = lambda _: None,
) -> nn.Module:
    """Train a slim SegNet on random 256 px crops; returns it in eval mode."""
    torch.manual_seed(seed)
    network = build_segmenter("segnet", width_multiplier=width_multiplier)
    batches = _crops(tiles, Normalized(mean, std), batch, np.random.default_rng([seed, 10]))
    optimise(network, batches, steps=steps, learning_rate=learning_rate, progress=progress)
    return network


def _crops(
    tiles: TileSet, normalized: Normalized, batch: int, rng: np.random.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    # Half the crops from tumour tiles, so that neither class is rare.
    groups = [np.flatnonzero(tiles.is_tumor), np.flatnonzero(~tiles.is_tumor)]
    while True:
        images, masks = [], []
        for number in range(batch):
            index = rng.choice(groups[number % 2])
            y, x = rng.integers(0, TILE - _CROP + 1, 2)
            image = tiles.pixels[index, y : y + _CROP, x : x + _CROP]
            mask = tiles.tumor[index, y : y + _CROP, x : x + _CROP]
            image, mask = augmented(image, mask, rng, stain_jitter=0.15)
            images.append(image)
            masks.append(mask)
        inputs = normalized(torch.from_numpy(np.stack(images)))
        yield inputs, torch.from_numpy(np.stack(masks)).long()
