"""Training the five tile-level sub-classifiers, one for each fold (paper, section 4.4)."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from her2d.networks import build_classifier
from her2d.networks.export import Normalized
from her2d.training.augment import augmented
from her2d.training.folds import FOLDS, fold_of_slides
from her2d.training.optimise import optimise
from her2d.training.tiles import TileSet


def train_classifiers(
    tiles: TileSet,
    *,
    name: str,
    width_multiplier: float,
    mean: Sequence[float],
    std: Sequence[float],
    steps: int,
    batch: int = 12,
    learning_rate: float = 2e-3,
    seed: int,
    progress: Callable[[int, float], None] = lambda *_: None,
) -> list[nn.Module]:
    """Train a classifier on each fold's training slides; returns the five in eval mode.

    `progress` is told the fold and each step's loss.
    """
    fold = fold_of_slides(tiles.slides, seed)[tiles.slide]
    networks = []
    for number in range(FOLDS):
        torch.manual_seed(seed * FOLDS + number)
        network = build_classifier(name, width_multiplier=width_multiplier)
        chosen = tiles.is_tumor & (fold != number)
        rng = np.random.default_rng([seed, 20, number])
        optimise(
            network,
            _tiles(tiles, chosen, Normalized(mean, std), batch, rng),
            steps=steps,
            learning_rate=learning_rate,
            progress=lambda loss, number=number: progress(number, loss),  # type: ignore[misc]
        )
        networks.append(network)
    return networks


def _tiles(
    tiles: TileSet,
    chosen: NDArray[np.bool_],
    normalized: Normalized,
    batch: int,
    rng: np.random.Generator,
) -> Iterator[tuple[Tensor, Tensor]]:
    groups = [np.flatnonzero(chosen & tiles.strong), np.flatnonzero(chosen & ~tiles.strong)]
    if not len(groups[0]) or not len(groups[1]):
        raise ValueError("a fold's training slides hold no strong or no weak tumour tile")
    while True:
        indices = [rng.choice(groups[number % 2]) for number in range(batch)]
        images = [
            augmented(tiles.pixels[i], tiles.tumor[i], rng, stain_jitter=0.15)[0] for i in indices
        ]
        inputs = normalized(torch.from_numpy(np.stack(images)))
        yield inputs, torch.from_numpy(tiles.strong[indices].astype(np.int64))
