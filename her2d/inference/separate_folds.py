"""Open the five sub-classifiers one by one, where they then compute exactly the same."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from her2d.inference.engine import Tiles
from her2d.inference.fold_graphs import fold_graphs
from her2d.method import TILE_PX

N = TypeVar("N")


@dataclass(frozen=True, slots=True)
class SeparateFolds(Generic[N]):
    """The sub-classifiers' networks by fold.

    Attributes:
        networks: five networks; none if they cannot be run one by one.
        problem: why they cannot be; None if they can.
        in_batches: why they cannot be in batches of more than one tile, whose size changes as
            tiles are decided; None if they can.
    """

    networks: tuple[N, ...] = ()
    problem: str | None = "The engine was opened to run all sub-classifiers at once."
    in_batches: str | None = None

    def problem_for(self, full_batch: int) -> str | None:
        """Return why they cannot be run one by one in batches of up to so many tiles."""
        return self.problem or (self.in_batches if full_batch > 1 else None)


def open_separately(
    graph: bytes,
    joined: N,
    open_network: Callable[[bytes], N],
    classify: Callable[[N, Tiles], NDArray[np.float32]],
) -> SeparateFolds[N]:
    """Open each sub-classifier as a network, and compare all with the network of all five.

    The numbers must be equal to the last bit.

    Args:
        graph: the content of `classifiers.onnx`.
        joined: the network of all five.
        open_network: opens a network from the content of an ONNX file. Raises EngineError.
        classify: computes p(strong) by a network. Raises EngineError.

    Raises:
        EngineError: a network cannot be opened, or failed.
    """
    parts = fold_graphs(graph)
    if parts is None:
        return SeparateFolds(
            problem="The bundle's classifiers.onnx does not end with a step that joins the outputs"
            " of five networks."
        )
    networks = tuple(map(open_network, parts))
    tiles = _check_tiles()
    apart = side_by_side(networks, tiles[:1], classify)
    if not np.array_equal(classify(joined, tiles[:1]), apart):
        return SeparateFolds(
            problem="One at a time, this back end does not compute exactly the same as all at once."
        )
    in_batch = classify(joined, tiles)
    if not np.array_equal(in_batch[:1], apart):
        return SeparateFolds(
            networks,
            None,
            "This back end does not compute exactly the same in batches of another size. With"
            " [pipeline] classifier_batch = 1 it would.",
        )
    return SeparateFolds(networks, None)


def side_by_side(
    networks: Sequence[N], tiles: Tiles, classify: Callable[[N, Tiles], NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Return p(strong) by each of the networks, float32 (N, 5)."""
    return np.concatenate([classify(network, tiles) for network in networks], axis=1)


def _check_tiles() -> Tiles:
    """Return a tile with structures of several sizes, and a blank one."""
    rng = np.random.default_rng(0)
    noise = sum(
        np.kron(
            rng.integers(0, 64, (TILE_PX // size, TILE_PX // size, 3), dtype=np.uint8),
            np.ones((size, size, 1), np.uint8),
        )
        for size in (1, 4, 16, 64)
    )
    blank = np.full((TILE_PX, TILE_PX, 3), 255, np.uint8)
    return np.stack([np.asarray(noise, np.uint8), blank])
