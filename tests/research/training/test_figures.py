"""The figures by which networks are judged while they train."""

import math

import torch
from torch import nn

from her2d.research.training.lightning_module import AUROC, SENSITIVITY, ClassifierTraining
from her2d.research.training.recipe import NetworkRecipe


def figures(targets: list[int], logits: list[float]) -> dict[str, float]:
    """A classifier's figures of tiles with these classes and logits of the second one."""
    model = ClassifierTraining(nn.Identity(), NetworkRecipe(), (0, 0, 0), (1, 1, 1), 0)
    second = torch.tensor(logits)
    model.judge(torch.stack([-second, second], dim=1), torch.tensor(targets))
    return {name: float(value) for name, value in model.judged.compute().items()}


def test_a_classifier_that_orders_all_tiles_rightly_has_an_auroc_of_1():
    assert figures([0, 1, 1], [-2.0, 0.5, 1.0]) == {AUROC: 1.0, SENSITIVITY: 1.0}


def test_tiles_of_one_class_have_no_auroc():
    assert math.isnan(figures([1, 1], [0.5, 1.0])[AUROC])
    assert math.isnan(figures([0, 0], [0.5, 1.0])[AUROC])
