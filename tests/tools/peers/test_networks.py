"""The researcher's networks compute what the bundle's graphs compute."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from her2d.bundle.loading import load_bundle
from her2d.inference.selection import open_engine
from her2d.research.networks.build import build_classifier
from her2d.simulator.tissue import tissue_tiles
from tools.peers.contestants.networks import (
    ResNet,
    build_classifiers,
    build_segmenter,
    load_weights,
    normalized,
)
from tools.peers.weights import write_weights

SHIPPED = Path(__file__).parents[3] / "engines" / "her2net-demo"


@pytest.mark.slow
def test_they_give_the_masks_and_probabilities_of_the_shipped_bundle(tmp_path):
    bundle = load_bundle(SHIPPED)
    write_weights(bundle, tmp_path / "weights.npz")
    weights = load_weights(tmp_path / "weights.npz")
    # On flat colours a pooling window has several maxima, of which rounding chooses one.
    tiles = tissue_tiles(3)
    x = normalized(tiles, weights)
    with torch.inference_mode():
        mask = build_segmenter(weights)(x).argmax(1).numpy()
        p = torch.stack([n(x).softmax(1)[:, 1] for n in build_classifiers(weights)], dim=1)
    assert 0.01 < mask.mean() < 0.99
    engine = open_engine(bundle, backend="onnxruntime", threads=1)
    try:
        assert (mask == engine.segment(tiles).mask).mean() > 0.9999
        np.testing.assert_allclose(p.numpy(), engine.classify(tiles), atol=1e-5)
    finally:
        engine.close()
    assert weights.tile_cut == bundle.manifest.decision.tile_cut


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_a_resnet_of_either_kind_of_block_computes_what_the_trained_one_does(name):
    torch.manual_seed(1)
    trained = build_classifier(name, width_multiplier=0.125).eval()
    for module in trained.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        expected = trained(x)
        torch.testing.assert_close(ResNet(folded(trained), "")(x), expected, atol=1e-4, rtol=1e-3)


def folded(network: nn.Module) -> dict[str, Tensor]:
    """Return the weights as an export has them, with normalisation folded into convolutions."""
    modules = dict(network.named_modules())
    weights = {f"fc.{name}": value for name, value in modules["fc"].state_dict().items()}
    for name, module in modules.items():
        if isinstance(module, nn.Conv2d):
            before, _, last = name.rpartition(".")
            norm = "1" if last == "0" else last.replace("conv", "bn")
            of = modules[f"{before}.{norm}" if before else norm]
            for key, value in fuse_conv_bn_eval(module, of).state_dict().items():
                weights[f"{name}.{key}"] = value
    return weights
