"""torch networks -> the two ONNX graphs of a bundle, contracts as in the design.

Normalisation, layout and post-processing are inside the graphs, so that every back end computes
the same thing from raw uint8 tiles.
"""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

TUMOR = 1
STRONG = 1
_OPSET = 18


class Normalized(nn.Module):
    """uint8 (N, H, W, 3) RGB -> float (N, 3, H, W), `(value / 255 - mean) / std` by channel."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        scale = 1.0 / (255.0 * torch.tensor(std, dtype=torch.float32))
        shift = -torch.tensor(mean, dtype=torch.float32) / torch.tensor(std, dtype=torch.float32)
        self.register_buffer("scale", scale.view(1, 3, 1, 1))
        self.register_buffer("shift", shift.view(1, 3, 1, 1))

    def forward(self, tiles: Tensor) -> Tensor:
        # Cast first: TensorRT lets nothing but a cast read uint8.
        x = tiles.to(torch.float32).permute(0, 3, 1, 2)
        return x * self.get_buffer("scale") + self.get_buffer("shift")


class SegmenterGraph(nn.Module):
    """uint8 (N, 512, 512, 3) -> `tumor_pixels` int32 (N,), `mask` uint8 (N, 512, 512)."""

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.normalized = Normalized(mean, std)
        self.network = network

    def forward(self, tiles: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.network(self.normalized(tiles))
        # argmax of two classes; on a tie it is the first, no tumour.
        tumor = logits[:, TUMOR] > logits[:, 1 - TUMOR]
        return tumor.to(torch.int32).sum(dim=(1, 2), dtype=torch.int32), tumor.to(torch.uint8)


class ClassifiersGraph(nn.Module):
    """uint8 (N, 512, 512, 3) -> `p_strong` float32 (N, folds), one column a network."""

    def __init__(
        self, networks: Sequence[nn.Module], mean: Sequence[float], std: Sequence[float]
    ) -> None:
        super().__init__()
        self.normalized = Normalized(mean, std)
        self.networks = nn.ModuleList(networks)

    def forward(self, tiles: Tensor) -> Tensor:
        x = self.normalized(tiles)
        return torch.stack([n(x).softmax(dim=1)[:, STRONG] for n in self.networks], dim=1)


def export_segmenter(
    network: nn.Module, path: Path, *, mean: Sequence[float], std: Sequence[float]
) -> None:
    """Write `network`, (N, 3, 512, 512) -> (N, 2, 512, 512), as the bundle's segmenter graph."""
    _export(SegmenterGraph(network, mean, std), path, ["tumor_pixels", "mask"])


def export_classifiers(
    networks: Sequence[nn.Module], path: Path, *, mean: Sequence[float], std: Sequence[float]
) -> None:
    """Write the folds' networks, each (N, 3, 512, 512) -> (N, 2), as one classifiers graph."""
    _export(ClassifiersGraph(networks, mean, std), path, ["p_strong"])


def _export(graph: nn.Module, path: Path, outputs: list[str]) -> None:
    example = torch.zeros(2, 512, 512, 3, dtype=torch.uint8)
    with _quiet():
        torch.onnx.export(
            graph.eval(),
            (example,),
            path,
            input_names=["tiles"],
            output_names=outputs,
            dynamic_shapes=({0: torch.export.Dim("N")},),
            opset_version=_OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter tells of operators of packages that we don't use."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
