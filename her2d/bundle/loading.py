"""Load a bundle from a folder and verify its files.

A bundle is a folder `engines/<name>/` with a `manifest.toml` and the files that the manifest names.
Each file's SHA-256 must agree with the manifest before the file is used.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from her2d.bundle.external_data import has_external_data
from her2d.bundle.manifest import (
    MANIFEST_FILE,
    BundleError,
    Manifest,
    Mil,
    MilParts,
    Part,
    Parts,
    parse_manifest,
)

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
        return self.directory / self.her2net.classifiers.file

    @property
    def integrator(self) -> Path:
        return self.directory / self.her2net.integrator.file

    @property
    def encoder(self) -> Path:
        return self.directory / self.mil_parts.encoder.file

    @property
    def attention(self) -> Path:
        return self.directory / self.mil_parts.attention.file

    @property
    def her2net(self) -> Parts:
        """The parts of HER2Net. Raises BundleError: the bundle calls slides by another method."""
        parts = self.manifest.parts
        if isinstance(parts, MilParts):
            raise BundleError(
                f"The bundle {self.directory} calls slides by attention (mil) and has no tile"
                " classifiers, which this needs."
            )
        return parts

    @property
    def mil_parts(self) -> MilParts:
        """The parts of a bundle with `mil`. Raises BundleError: it is HER2Net's."""
        parts = self.manifest.parts
        if not isinstance(parts, MilParts):
            raise BundleError(f"The bundle {self.directory} has no encoder: it is HER2Net's.")
        return parts

    @property
    def mil(self) -> Mil:
        """How it calls slides by attention. Raises BundleError: it is HER2Net's."""
        if self.manifest.mil is None:
            raise BundleError(f"The bundle {self.directory} has no section mil: it is HER2Net's.")
        return self.manifest.mil


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
    graphs: tuple[Part, ...]
    if isinstance(parts, MilParts):
        graphs = (parts.segmenter, parts.encoder, parts.attention)
    else:
        graphs = (parts.segmenter, parts.classifiers)
    for part in graphs:
        path = directory / part.file
        if has_external_data(read_verified(path, part.sha256)):
            raise BundleError(
                f"The bundle's {path} keeps weights in other files, which its manifest does not"
                " verify. Export it as one file."
            )
    if isinstance(parts, Parts):
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
