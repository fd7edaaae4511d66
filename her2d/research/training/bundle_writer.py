"""Trained models -> a bundle folder that `her2d.bundle.manifest` will load."""

from pathlib import Path

import tomli_w

from her2d.bundle.loading import sha256_of
from her2d.bundle.manifest import MANIFEST_FILE, Manifest, Part

SEGMENTER_FILE = "segmenter.onnx"
CLASSIFIERS_FILE = "classifiers.onnx"
INTEGRATOR_FILE = "integrator.skops"


def part(directory: Path, file: str, architecture: str) -> Part:
    """A manifest's entry for a file that is already in the bundle."""
    return Part(file=file, sha256=sha256_of(directory / file), architecture=architecture)


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write `manifest.toml`, last of all: without it the folder is no bundle."""
    text = tomli_w.dumps(manifest.model_dump(mode="json", exclude_none=True))
    (directory / MANIFEST_FILE).write_text(text)
