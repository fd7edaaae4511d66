"""Whether a bundle's networks, rewritten for the CPU, give the bits of the bundle's own graphs.

Opening an engine compares each part that is replaced. This compares all of a network, which also
shows whether ONNX Runtime joins steps otherwise around a part that was replaced.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from her2d.bundle.loading import Bundle
from her2d.bundle.manifest import Part, Parts
from her2d.inference.engine import CLASSIFIERS_OUTPUTS, SEGMENTER_OUTPUTS, Tiles
from her2d.inference.graph_files import loading_graph
from her2d.inference.onnxruntime_engine import OnnxRuntimeNetwork, graph_for_cpu
from her2d.inference.ways import simplest_way
from her2d.method import TILE_PX
from her2d.system.cpus import usable_cpus

# How much red, green and blue light each absorbs (Ruifrok and Johnston 2001).
_HEMATOXYLIN_AND_EOSIN = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]], np.float32)
_WHITE = 255
_PATCHES = 16  # of differently stained tissue, along a tile's side
_MOST_DYE = 1.5
_GRAIN = 4.0


@dataclass(frozen=True, slots=True)
class RewrittenNetworks:
    """What became of a bundle's networks on this machine.

    Attributes:
        rewritten: the files of those that are rewritten.
        differing: the files of those among them whose results differ from the bundle's own.
    """

    rewritten: tuple[str, ...]
    differing: tuple[str, ...]


def compare_rewritten(bundle: Bundle, *, threads: int = 0) -> RewrittenNetworks:
    """Run each rewritten network and the bundle's own on some tiles, and compare their bits.

    Args:
        bundle: a verified bundle.
        threads: as in `EngineOptions`.

    Raises:
        EngineError: a graph cannot be loaded, or ONNX Runtime failed.
    """
    way, parts = simplest_way(threads or usable_cpus()), bundle.manifest.parts
    networks: list[tuple[Path, Part, tuple[str, ...]]] = [
        (bundle.segmenter, parts.segmenter, SEGMENTER_OUTPUTS)
    ]
    if isinstance(parts, Parts):  # an encoder is never rewritten
        networks.append((bundle.classifiers, parts.classifiers, CLASSIFIERS_OUTPUTS))
    rewritten, differing = [], []
    for path, part, outputs in networks:
        with loading_graph(path, part.sha256) as graph:
            faster = graph_for_cpu(graph)
            if faster == graph:
                continue
            rewritten.append(part.file)
            # One after the other, so that both are never in memory at once.
            before, after = (
                _bits(OnnxRuntimeNetwork(path, each, outputs, way)) for each in (graph, faster)
            )
        if before != after:
            differing.append(part.file)
    return RewrittenNetworks(tuple(rewritten), tuple(differing))


def _bits(network: OnnxRuntimeNetwork) -> list[tuple[np.dtype, tuple[int, ...], bytes]]:
    """Return type, shape and content of each output for each tile."""
    return [
        (output.dtype, output.shape, output.tobytes())
        for tile in _tiles()
        for output in map(np.asarray, network.run(tile[None]))
    ]


def _tiles() -> Tiles:
    """Return noise, stained patches, and a blank tile, in which all values are equal.

    The patches grow darker from left to right, so that a segmenter finds tumour in some and none in
    others: a mask shows other roundings only along the borders of tumour.
    """
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (TILE_PX, TILE_PX, 3), np.uint8)
    dye = rng.random((_PATCHES, _PATCHES, 2), np.float32)
    dye = np.asarray(cv2.resize(dye, (TILE_PX, TILE_PX), interpolation=cv2.INTER_CUBIC), np.float32)
    dye *= np.linspace(0, _MOST_DYE, TILE_PX, dtype=np.float32)[:, None]
    light = _WHITE * np.exp(-dye @ _HEMATOXYLIN_AND_EOSIN)
    grain = rng.normal(0, _GRAIN, light.shape)
    stained = (light + grain).clip(0, _WHITE).astype(np.uint8)
    return np.stack([noise, stained, np.full_like(noise, _WHITE)])
