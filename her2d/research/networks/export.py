"""Export torch networks as the ONNX graphs of a bundle that take tiles.

Normalisation, layout and post-processing are part of the graphs, so that every back end computes
the same result from raw uint8 tiles.
"""

import copy
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from her2d.method import TILE_PX

TUMOR = 1
STRONG = 1
_OPSET = 18


class Normalized(nn.Module):
    """Normalise uint8 (N, H, W, 3) RGB to float32 (N, 3, H, W).

    Each channel becomes `(value / 255 - mean) / std`.

    Args:
        mean: Mean of each channel, on the 0..1 scale.
        std: Standard deviation of each channel, on the 0..1 scale.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        scale = 1.0 / (255.0 * torch.tensor(std, dtype=torch.float32))
        shift = -torch.tensor(mean, dtype=torch.float32) / torch.tensor(std, dtype=torch.float32)
        self.register_buffer("scale", scale.view(1, 3, 1, 1))
        self.register_buffer("shift", shift.view(1, 3, 1, 1))

    def forward(self, tiles: Tensor) -> Tensor:
        # Cast first, because TensorRT accepts uint8 as the input of a cast only.
        x = tiles.to(torch.float32).permute(0, 3, 1, 2)
        return x * self.get_buffer("scale") + self.get_buffer("shift")


class SegmenterGraph(nn.Module):
    """Segment uint8 (N, 512, 512, 3) RGB tiles.

    Outputs `tumor_pixels`, int32 (N,), and `mask`, uint8 (N, 512, 512) with 1 where tumour.

    Args:
        network: Maps float32 (N, 3, 512, 512) to logits (N, 2, 512, 512).
        mean, std: Normalisation, see `Normalized`.
    """

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.normalized = Normalized(mean, std)
        self.network = network

    def forward(self, tiles: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.network(self.normalized(tiles))
        # The argmax of two classes; a tie counts as no tumour, the first class.
        tumor = logits[:, TUMOR] > logits[:, 1 - TUMOR]
        return tumor.to(torch.int32).sum(dim=(1, 2), dtype=torch.int32), tumor.to(torch.uint8)


class ClassifiersGraph(nn.Module):
    """Classify uint8 (N, 512, 512, 3) RGB tiles.

    Outputs `p_strong`, float32 (N, folds), with one column per network.

    Args:
        networks: One per fold; each maps float32 (N, 3, 512, 512) to logits (N, 2).
        mean, std: Normalisation, see `Normalized`.
    """

    def __init__(
        self, networks: Sequence[nn.Module], mean: Sequence[float], std: Sequence[float]
    ) -> None:
        super().__init__()
        self.normalized = Normalized(mean, std)
        self.networks = nn.ModuleList(networks)

    def forward(self, tiles: Tensor) -> Tensor:
        x = self.normalized(tiles)
        return torch.stack([n(x).softmax(dim=1)[:, STRONG] for n in self.networks], dim=1)


class FeaturesGraph(nn.Module):
    """Make the features of uint8 (N, 512, 512, 3) RGB tiles, by the classifiers of all folds.

    Outputs `features`, float32 (N, folds, channels): what the last linear layer of each reads.

    Args:
        networks: One per fold; each maps float32 (N, 3, 512, 512) to logits (N, 2).
        mean, std: Normalisation, see `Normalized`.
    """

    def __init__(
        self, networks: Sequence[nn.Module], mean: Sequence[float], std: Sequence[float]
    ) -> None:
        super().__init__()
        self.normalized = Normalized(mean, std)
        self.networks = nn.ModuleList(without_last_layer(network) for network in networks)

    def forward(self, tiles: Tensor) -> Tensor:
        x = self.normalized(tiles)
        return torch.stack([n(x).flatten(1) for n in self.networks], dim=1)


def without_last_layer(network: nn.Module) -> nn.Module:
    """Return a copy of a classifier that gives what its last linear layer reads."""
    cut = copy.deepcopy(network)
    *_, (name, _last) = (
        (name, layer) for name, layer in cut.named_modules() if isinstance(layer, nn.Linear)
    )
    cut.set_submodule(name, nn.Identity())
    return cut


def export_segmenter(
    network: nn.Module, path: Path, *, mean: Sequence[float], std: Sequence[float]
) -> None:
    """Write a segmenter as the bundle's segmenter graph, see `SegmenterGraph`.

    Args:
        network: Maps float32 (N, 3, 512, 512) to logits (N, 2, 512, 512).
        path: ONNX file to write.
        mean, std: Normalisation the network was trained with, on the 0..1 scale.

    Raises:
        OSError: The file cannot be written.
    """
    _export_tiles(SegmenterGraph(network, mean, std), path, ["tumor_pixels", "mask"])


def export_classifiers(
    networks: Sequence[nn.Module], path: Path, *, mean: Sequence[float], std: Sequence[float]
) -> None:
    """Write the sub-classifiers of all folds as one graph, see `ClassifiersGraph`.

    Args:
        networks: One per fold; each maps float32 (N, 3, 512, 512) to logits (N, 2).
        path: ONNX file to write.
        mean, std: Normalisation the networks were trained with, on the 0..1 scale.

    Raises:
        OSError: The file cannot be written.
    """
    _export_tiles(ClassifiersGraph(networks, mean, std), path, ["p_strong"])


def export_features(
    networks: Sequence[nn.Module], path: Path, *, mean: Sequence[float], std: Sequence[float]
) -> None:
    """Write the sub-classifiers of all folds as an encoder of tiles, see `FeaturesGraph`.

    Args:
        networks: One per fold; each maps float32 (N, 3, 512, 512) to logits (N, 2).
        path: ONNX file to write.
        mean, std: Normalisation the networks were trained with, on the 0..1 scale.

    Raises:
        OSError: The file cannot be written.
    """
    _export_tiles(FeaturesGraph(networks, mean, std), path, ["features"])


def _export_tiles(graph: nn.Module, path: Path, outputs: list[str]) -> None:
    example = torch.zeros(2, TILE_PX, TILE_PX, 3, dtype=torch.uint8)
    export_graph(graph, path, example, inputs=["tiles"], outputs=outputs)


def export_graph(
    graph: nn.Module, path: Path, example: Tensor, *, inputs: list[str], outputs: list[str]
) -> None:
    """Write a module as an ONNX graph in which the first axis of the input has any size.

    Args:
        graph: Module with one input.
        path: ONNX file to write.
        example: An input with two rows.
        inputs, outputs: Names of the graph's input and outputs.

    Raises:
        OSError: The file cannot be written.
    """
    with _quiet():
        torch.onnx.export(
            graph.eval(),
            (example,),
            path,
            input_names=inputs,
            output_names=outputs,
            dynamic_shapes=({0: torch.export.Dim("N")},),
            opset_version=_OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter, which warns about operators of packages that her2d does not use."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
