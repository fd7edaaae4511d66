"""Bundles of the real architectures with random weights, exported like trained ones."""

from pathlib import Path

import numpy as np
import skops.io
import torch
from sklearn.ensemble import RandomForestClassifier

from her2d.bundle.loading import Bundle, load_bundle, sha256_of
from her2d.bundle.manifest import Manifest, Normalization, Parts, Training
from her2d.research.networks.build import build_classifier, build_segmenter
from her2d.research.networks.export import export_classifiers, export_segmenter
from her2d.research.training.bundle_writer import (
    INTEGRATOR_FILE,
    manifest_part,
    write_manifest,
)

MEAN, STD = (0.75, 0.60, 0.78), (0.16, 0.18, 0.12)


def shaken(network: torch.nn.Module) -> torch.nn.Module:
    """Give a network batch statistics that differ from their initial zeros and ones."""
    generator = torch.Generator().manual_seed(7)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.copy_(torch.randn(module.num_features, generator=generator) * 0.1)
            module.running_var.copy_(torch.rand(module.num_features, generator=generator) + 0.5)
    return network.eval()


def write_bundle(
    folder: Path, *, segmenter_width: float, classifier: str, classifier_width: float
) -> Bundle:
    """Write SegNet and five classifiers with random weights, and a forest fitted to their mean."""
    folder.mkdir(parents=True)
    torch.manual_seed(3)
    segmenter = shaken(build_segmenter("segnet", width_multiplier=segmenter_width))
    export_segmenter(segmenter, folder / "segmenter.onnx", mean=MEAN, std=STD)
    networks = [
        shaken(build_classifier(classifier, width_multiplier=classifier_width)) for _ in range(5)
    ]
    export_classifiers(networks, folder / "classifiers.onnx", mean=MEAN, std=STD)
    p = np.random.default_rng(0).random((200, 5)).astype(np.float32)
    forest = RandomForestClassifier(50, max_depth=4, random_state=0)
    skops.io.dump(forest.fit(p, (p.mean(axis=1) > 0.5).astype(int)), folder / INTEGRATOR_FILE)
    manifest = Manifest(
        name="random",
        version="1",
        intended_use="Tests.",
        normalization=Normalization(mean=MEAN, std=STD),
        parts=Parts(
            segmenter=manifest_part(folder, "segmenter.onnx", "SegNet"),
            classifiers=manifest_part(folder, "classifiers.onnx", f"5 x {classifier}"),
            integrator=manifest_part(folder, "integrator.skops", "random forest"),
        ),
        training=Training(cohort="none", seed=3, code_version="0", command="pytest"),
    )
    write_manifest(folder, manifest)
    return load_bundle(folder)


def with_other_graphs(bundle: Bundle, folder: Path) -> Bundle:
    """Return a bundle of the graphs in a folder, whose manifest states what they are."""
    parts = bundle.manifest.parts
    changed = {
        name: part.model_copy(update={"sha256": sha256_of(folder / part.file)})
        for name, part in (("segmenter", parts.segmenter), ("classifiers", parts.classifiers))
        if (folder / part.file).is_file()
    }
    manifest = bundle.manifest.model_copy(update={"parts": parts.model_copy(update=changed)})
    return Bundle(folder, manifest, bundle.digest)
