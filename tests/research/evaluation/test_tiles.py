"""Mean intersection over union."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from her2d.bundle.manifest import Normalization
from her2d.research.evaluation.tiles import mean_iou, pixel_confusion, store_confusion
from her2d.research.training.tile_store import PreparedTile, TileStore, slide_path, write_slide


def test_it_is_that_of_a_confusion_matrix_done_by_hand():
    assert mean_iou(np.array([[50, 10], [20, 20]])) == pytest.approx((50 / 80 + 20 / 50) / 2)


def test_pixels_are_counted_by_truth_then_prediction():
    truth = np.array([[0, 0, 0, 1]], np.uint8)
    predicted = np.array([[0, 1, 1, 1]], np.uint8)
    assert pixel_confusion(truth, predicted).tolist() == [[1, 2], [0, 1]]


@given(st.integers(0, 1000))
def test_a_mask_agrees_fully_with_itself(seed):
    mask = np.random.default_rng(seed).integers(0, 2, (8, 8), dtype=np.uint8)
    assert mean_iou(pixel_confusion(mask, mask)) == 1


def test_a_class_that_nobody_saw_is_left_out():
    assert mean_iou(np.array([[7, 0], [0, 0]])) == 1
    assert math.isnan(mean_iou(np.zeros((2, 2), np.int64)))


class EverythingIsTumor(nn.Module):
    def forward(self, x):
        return torch.stack([torch.zeros_like(x[:, 0]), torch.ones_like(x[:, 0])], dim=1)


def test_the_padding_of_a_tile_is_not_counted(tmp_path):
    pixels = np.full((512, 512, 3), 255, np.uint8)
    pixels[:300, :200] = 120
    tumor = np.zeros((512, 512), np.uint8)
    tumor[:100, :200] = 1
    write_slide(
        slide_path(tmp_path, "S"),
        iter([PreparedTile(0, 0, pixels, tumor, 0)]),
        expression_from="none",
        fingerprint={},
    )
    normalization = Normalization(mean=(0, 0, 0), std=(1, 1, 1))
    found = store_confusion(EverythingIsTumor(), TileStore(tmp_path, ["S"]), normalization)
    assert found.tolist() == [[0, 200 * 200], [0, 100 * 200]]
