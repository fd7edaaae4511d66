"""Load a bundle from a folder and verify its files.

A bundle is a folder `engines/<name>/` with a `manifest.toml` and the files that the manifest names.
Each file's SHA-256 must agree with the manifest before the file is used.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from her2d.bundle.external_data import has_external_data
from her2d.bundle.manifest import MANIFEST_FILE, BundleError, Manifest, parse_manifest

if TYPE_CHECKING:
    from her2d.bundle.site_calibration import SignedCalibration

_HASH_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files all agree with its manifest."""

    directory: Path
    manifest: Manifest
    digest: str
    """SHA-256 of the manifest, which contains each part's hash, so the digest names the bundle."""
    calibration: "SignedCalibration | None" = None
    """The laboratory's own calibration of it, if `with_calibration` found one."""

    @property
    def segmenter(self) -> Path:
        return self.directory / self.manifest.parts.segmenter.file

    @property
    def classifiers(self) -> Path:
        return self.directory / self.manifest.parts.classifiers.file

    @property
    def integrator(self) -> Path:
        return self.directory / self.manifest.parts.integrator.file


def load_bundle(directory: Path | str) -> Bundle:
    """Read and verify the bundle in `directory`.

    Raises:
        BundleError: the manifest is missing or not valid, a file is missing or differs from its
            SHA-256, or a graph keeps weights in other files.
    """
    directory = Path(directory)
    manifest_path = directory / MANIFEST_FILE
    try:
        text = manifest_path.read_bytes()
    except OSError as error:
        raise BundleError(
            f"There is no readable model bundle in {directory}: {MANIFEST_FILE}: {error.strerror}."
        ) from error
    manifest = parse_manifest(text, manifest_path)
    parts = manifest.parts
    for part in (parts.segmenter, parts.classifiers):
        path = directory / part.file
        if has_external_data(read_verified(path, part.sha256)):
            raise BundleError(
                f"The bundle's {path} keeps weights in other files, which its manifest does not"
                " verify. Export it as one file."
            )
    read_verified(directory / parts.integrator.file, parts.integrator.sha256)
    return Bundle(directory.resolve(), manifest, hashlib.sha256(text).hexdigest())


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, as 64 hexadecimal digits. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_HASH_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def read_verified(path: Path, sha256: str) -> bytes:
    """Return the content of a bundle's file, which is used as it was when it was verified.

    Raises:
        BundleError: the file cannot be read, or its SHA-256 is another one.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BundleError(f"The bundle's {path} cannot be read: {error.strerror}.") from error
    _require_hash(path, hashlib.sha256(content).hexdigest(), sha256)
    return content


def verify(path: Path, sha256: str) -> None:
    """Check a bundle's file of any size, of which only a part is in memory at a time.

    Raises:
        BundleError: the file cannot be read, or its SHA-256 is another one.
    """
    try:
        found = sha256_of(path)
    except OSError as error:
        raise BundleError(f"The bundle's {path} cannot be read: {error.strerror}.") from error
    _require_hash(path, found, sha256)


def _require_hash(path: Path, found: str, sha256: str) -> None:
    if found != sha256:
        raise BundleError(
            f"The bundle's {path} differs from the manifest:"
            f" its SHA-256 is {found[:12]}… and not {sha256[:12]}…."
        )
