"""Write the manifest of a bundle folder."""

from pathlib import Path

import tomli_w

from her2d.bundle.loading import sha256_of
from her2d.bundle.manifest import MANIFEST_FILE, Manifest, Part

SEGMENTER_FILE = "segmenter.onnx"
CLASSIFIERS_FILE = "classifiers.onnx"
INTEGRATOR_FILE = "integrator.skops"


def manifest_part(directory: Path, file: str, architecture: str) -> Part:
    """Describe a file that is already in the bundle.

    Args:
        directory: The bundle's folder.
        file: Name of the file in it.
        architecture: What the model is, in words.

    Raises:
        OSError: The file cannot be read.
    """
    return Part(file=file, sha256=sha256_of(directory / file), architecture=architecture)


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write `manifest.toml`, after all other files, because it is what makes a folder a bundle.

    Args:
        directory: The bundle's folder.
        manifest: What to write.

    Raises:
        OSError: The file cannot be written.
    """
    text = tomli_w.dumps(manifest.model_dump(mode="json", exclude_none=True))
    (directory / MANIFEST_FILE).write_text(text)
