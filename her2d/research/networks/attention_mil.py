"""Gated-attention multiple-instance learning (Ilse et al. 2018, arXiv:1802.04712).

A slide is a bag of tiles of which only the slide's label is known. Attention weighs the tiles'
features, and the weighted mean is classified. It is a baseline beside HER2Net, which learns from
the labels of tiles.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from her2d.research.networks.export import export_graph


class AttentionMil(nn.Module):
    """Classify a bag of T >= 1 tiles by their features.

    Args:
        channels: Number of features of a tile.
        hidden: Channels to which the features are reduced.
        attention: Channels of the gated attention.
        dropout: Share of the reduced channels that a training step leaves out.
    """

    def __init__(self, channels: int, *, hidden: int, attention: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.reduced = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Dropout(dropout))
        self.value = nn.Sequential(nn.Linear(hidden, attention), nn.Tanh())
        self.gate = nn.Sequential(nn.Linear(hidden, attention), nn.Sigmoid())
        self.weight = nn.Linear(attention, 1)
        self.head = nn.Linear(hidden, 1)

    def forward(self, bag: Tensor) -> tuple[Tensor, Tensor]:
        """Map a bag, float32 (T, channels), to its logit and the attention to each tile.

        Returns:
            The logit of a positive slide, float32 (1,), and weights that sum to 1, float32 (T,).
        """
        reduced = self.reduced(bag)
        scores = self.weight(self.value(reduced) * self.gate(reduced))
        attention = scores.softmax(dim=0)
        return self.head((attention * reduced).sum(dim=0)), attention[:, 0]


class BagGraph(nn.Module):
    """Classify a bag with the networks of all folds.

    Outputs `p_positive`, float32 (folds,), and `attention`, float32 (T, folds).

    Args:
        networks: One per fold.
        own_features: Whether each network has other features, from its fold's classifier.
    """

    def __init__(self, networks: Sequence[AttentionMil], *, own_features: bool) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.own_features = own_features

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Map features, float32 (T, sets, channels), to probabilities and attention."""
        logits, attentions = [], []
        for fold, network in enumerate(self.networks):
            logit, attention = network(features[:, fold if self.own_features else 0])
            logits.append(logit)
            attentions.append(attention)
        return torch.cat(logits).sigmoid(), torch.stack(attentions, dim=1)


def export_bag_graph(graph: BagGraph, path: Path, *, sets: int, channels: int) -> None:
    """Write the networks of all folds as one graph, see `BagGraph`.

    Args:
        graph: The networks.
        path: ONNX file to write.
        sets: Number of feature sets of a tile: one for each network, or one for all.
        channels: Number of features of a set.

    Raises:
        OSError: The file cannot be written.
    """
    example = torch.zeros(2, sets, channels)
    export_graph(graph, path, example, inputs=["features"], outputs=["p_positive", "attention"])
