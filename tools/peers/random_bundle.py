"""A bundle of the paper's size with random weights, which runs as long as a trained one."""

from pathlib import Path

import numpy as np
import skops.io
import torch
from sklearn.ensemble import RandomForestClassifier
from torch import Tensor, nn

from her2d.bundle.manifest import Manifest, Normalization, Parts, Tolerance, Training
from her2d.inference.engine import Tiles
from her2d.research.networks.build import build_classifier, build_segmenter
from her2d.research.networks.export import (
    TUMOR,
    Normalized,
    export_classifiers,
    export_segmenter,
)
from her2d.research.training.bundle_writer import INTEGRATOR_FILE, manifest_part, write_manifest

_MEAN, _STD = (0.75, 0.60, 0.78), (0.16, 0.18, 0.12)
_SEED = 3


def write_random_bundle(folder: Path, tiles: Tiles) -> None:
    """Write SegNet and five ResNet50 at full width.

    Args:
        folder: must not exist.
        tiles: uint8 (N, 512, 512, 3). The segmenter's last bias is chosen so that half of the
            first one is tumour, and therefore the classifiers have something to do.
    """
    folder.mkdir(parents=True)
    torch.manual_seed(_SEED)
    segmenter = _shaken(build_segmenter("segnet"))
    x = Normalized(_MEAN, _STD)(torch.from_numpy(tiles[:1]))
    with torch.inference_mode():
        logits = segmenter(x)
    bias = list(segmenter.modules())[-1].get_parameter("bias")
    with torch.no_grad():
        bias[TUMOR] -= (logits[:, TUMOR] - logits[:, 1 - TUMOR]).median()
    export_segmenter(segmenter, folder / "segmenter.onnx", mean=_MEAN, std=_STD)
    classifiers = [_moderate(_shaken(build_classifier("resnet50")), x) for _ in range(5)]
    export_classifiers(classifiers, folder / "classifiers.onnx", mean=_MEAN, std=_STD)
    p = np.random.default_rng(_SEED).random((200, 5)).astype(np.float32)
    forest = RandomForestClassifier(50, max_depth=4, random_state=_SEED)
    skops.io.dump(forest.fit(p, (p.mean(axis=1) > 0.5).astype(int)), folder / INTEGRATOR_FILE)
    write_manifest(
        folder,
        Manifest(
            name="random-full-size",
            version="1",
            intended_use="For measuring speed.",
            normalization=Normalization(mean=_MEAN, std=_STD),
            # Random logits are near a tie everywhere, so rounding changes more than in a trained
            # network.
            tolerance=Tolerance(mask_agreement=0.9, max_dp=0.2, changed_tiles=1.0, change_in_p=100),
            parts=Parts(
                segmenter=manifest_part(folder, "segmenter.onnx", "SegNet"),
                classifiers=manifest_part(folder, "classifiers.onnx", "5 x resnet50"),
                integrator=manifest_part(folder, INTEGRATOR_FILE, "random forest"),
            ),
            training=Training(
                cohort="none", seed=_SEED, code_version="0", command="python -m tools.peers"
            ),
        ),
    )


def _moderate(network: nn.Module, x: Tensor) -> nn.Module:
    """Scale a classifier's last layer so that its probability for `x` is neither 0 nor 1."""
    with torch.inference_mode():
        weak, strong = network(x)[0]
    with torch.no_grad():
        network.get_parameter("fc.weight").div_((strong - weak).abs())
    return network


def _shaken(network: nn.Module) -> nn.Module:
    """Give a network batch statistics that differ from their initial zeros and ones."""
    generator = torch.Generator().manual_seed(_SEED)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            mean, variance = module.running_mean, module.running_var
            assert mean is not None
            assert variance is not None
            mean.copy_(torch.randn(module.num_features, generator=generator) * 0.1)
            variance.copy_(torch.rand(module.num_features, generator=generator) + 0.5)
    return network.eval()
