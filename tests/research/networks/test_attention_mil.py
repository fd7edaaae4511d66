"""Gated attention over a bag of tiles."""

import numpy as np
import onnxruntime as ort
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from her2d.research.networks.attention_mil import AttentionMil, BagGraph, export_bag_graph

CHANNELS = 6


def networks() -> list[AttentionMil]:
    torch.manual_seed(3)
    return [AttentionMil(CHANNELS, hidden=8, attention=4, dropout=0.5).eval() for _ in range(5)]


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40).flatmap(lambda n: st.permutations(range(n))), st.integers(0, 99))
def test_the_order_of_tiles_does_not_matter(order, seed):
    bag = torch.from_numpy(np.random.default_rng(seed).normal(size=(len(order), CHANNELS))).float()
    with torch.no_grad():
        (logit, attention), (other, permuted) = (networks()[0](b) for b in (bag, bag[order]))
    assert torch.allclose(logit, other, atol=1e-5)
    assert torch.allclose(attention[order], permuted, atol=1e-5)
    assert attention.sum() == pytest.approx(1, abs=1e-5)


def test_a_bag_of_one_gets_all_attention_and_a_repeated_tile_changes_nothing():
    tile = torch.randn(1, CHANNELS)
    with torch.no_grad():
        logit, attention = networks()[0](tile)
        repeated, _ = networks()[0](tile.expand(7, -1))
    assert attention.tolist() == [1]
    assert torch.allclose(logit, repeated, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("sets", [1, 5])
def test_the_exported_graph_is_the_torch_networks(tmp_path, sets):
    of_folds = networks()
    graph = BagGraph(of_folds, own_features=sets > 1)
    export_bag_graph(graph, tmp_path / "a.onnx", sets=sets, channels=CHANNELS)
    session = ort.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    for tiles in (1, 2, 9):
        features = torch.randn(tiles, sets, CHANNELS)
        p, attention = session.run(None, {"features": features.numpy()})
        with torch.no_grad():
            expected_p, expected_attention = graph(features)
        assert np.allclose(p, expected_p.numpy(), atol=1e-6)
        assert np.allclose(attention, expected_attention.numpy(), atol=1e-6)
        assert (p.shape, attention.shape) == ((5,), (tiles, 5))


def test_each_network_reads_the_features_of_its_own_fold():
    features = torch.randn(3, 5, CHANNELS)
    of_folds = networks()
    with torch.no_grad():
        p, _ = BagGraph(of_folds, own_features=True)(features)
        alone = [network(features[:, fold])[0].sigmoid() for fold, network in enumerate(of_folds)]
    assert torch.allclose(p, torch.cat(alone))
