"""A researcher's script: OpenSlide reads, PyTorch computes, scikit-learn integrates."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import openslide
import torch
from numpy.typing import NDArray

from tools.peers.contestants.found import TILE_PX, Forest, found, has_tumor
from tools.peers.contestants.networks import (
    build_classifiers,
    build_segmenter,
    load_weights,
    normalized,
)
from tools.peers.served import arguments, serve

_SATURATION = 10.0


def main() -> None:
    """Score the slide whenever asked."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    given = arguments()
    weights = load_weights(Path(given["weights"]))
    batch = int(given["batch"])
    segmenter, classifiers = build_segmenter(weights), build_classifiers(weights)
    forest = Forest(Path(given["integrator"]), weights.tile_cut)

    def tiles(slide: openslide.OpenSlide) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        width, height = slide.dimensions
        places = itertools.product(range(0, height, TILE_PX), range(0, width, TILE_PX))
        for number, (top, left) in enumerate(places):
            region = slide.read_region((left, top), 0, (TILE_PX, TILE_PX))
            tile = np.asarray(region.convert("RGB"))
            if cv2.cvtColor(tile, cv2.COLOR_RGB2HSV)[..., 1].mean() > _SATURATION:
                yield number, tile

    def score() -> dict[str, object]:
        p_folds = []
        with openslide.OpenSlide(given["slide"]) as slide, torch.inference_mode():
            width, height = slide.dimensions
            mask = np.zeros(
                (-(-width // TILE_PX) * -(-height // TILE_PX), TILE_PX, TILE_PX), np.bool_
            )
            tissue = tiles(slide)
            while some := list(itertools.islice(tissue, batch)):
                x = normalized(np.stack([tile for _, tile in some]), weights)
                mask[numbers := [number for number, _ in some]] = segmenter(x).argmax(1).numpy()
                if (tumor := has_tumor(mask[numbers].sum(axis=(1, 2)))).any():
                    chosen = x[torch.from_numpy(tumor)]
                    p_folds += torch.stack(
                        [network(chosen).softmax(1)[:, 1] for network in classifiers], dim=1
                    ).tolist()
        p = np.array(p_folds, np.float32).reshape(-1, 5)
        return found(mask.sum(axis=(1, 2)), p, forest, mask)

    serve(score, ("torch", "openslide-python", "openslide-bin", "scikit-learn", "numpy"))


if __name__ == "__main__":
    main()
