"""The validation metrics of networks."""

import math

import torch
from torch import nn

from her2d.research.training.lightning_module import (
    AUROC,
    MIOU,
    SENSITIVITY,
    ClassifierTraining,
    SegmenterTraining,
)
from her2d.research.training.recipe import NetworkRecipe
from her2d.research.training.sampling import PADDING


def metrics(targets: list[int], logits: list[float]) -> dict[str, float]:
    """Compute a classifier's metrics from true classes and logits of the second class."""
    model = ClassifierTraining(nn.Identity(), NetworkRecipe(), (0, 0, 0), (1, 1, 1), 0)
    second = torch.tensor(logits)
    model.update_metrics(torch.stack([-second, second], dim=1), torch.tensor(targets))
    return {name: float(value) for name, value in model.metrics.compute().items()}


def test_a_classifier_that_orders_all_tiles_rightly_has_an_auroc_of_1():
    assert metrics([0, 1, 1], [-2.0, 0.5, 1.0]) == {AUROC: 1.0, SENSITIVITY: 1.0}


def test_tiles_of_one_class_have_no_auroc():
    assert math.isnan(metrics([1, 1], [0.5, 1.0])[AUROC])
    assert math.isnan(metrics([0, 0], [0.5, 1.0])[AUROC])


def test_padding_counts_neither_for_nor_against_a_segmenter():
    model = SegmenterTraining(nn.Identity(), NetworkRecipe(), (0, 0, 0), (1, 1, 1), 0)
    second = torch.tensor([[[1.0, -1.0, 1.0, -1.0]]])
    targets = torch.tensor([[[1, 0, PADDING, PADDING]]])
    model.update_metrics(torch.stack([-second, second], dim=1), targets)
    assert float(model.metrics.compute()[MIOU]) == 1.0
