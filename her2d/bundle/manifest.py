"""A model bundle on disk: what it is made of, that it is unaltered, what it was measured to do.

A bundle is a folder `engines/<name>/` with a `manifest.toml` and the files the manifest names.
It is trusted only after every file's SHA-256 agrees with the manifest: `load_bundle` refuses
otherwise. Networks are ONNX; the integrator is a skops archive restored from an explicit list of
types, so that no code in a bundle is ever run.
"""

import hashlib
import sys
import tomllib
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

MANIFEST_FILE = "manifest.toml"
_HASH_CHUNK_BYTES = 1 << 20
_MAGNIFICATION, _UM_PER_PX = 4.0, 2.5
# Scanners' 4x are 2.4 to 2.6 um/px.
_MPP_TOLERANCE = 0.05

# What the paper's eight integrators store beyond the estimators and arrays that skops trusts by
# itself: data, restored from arrays and plain values. XGBoost's Booster is restored by its library
# from a binary form of its own; a machine that serves such a bundle needs xgboost installed.
INTEGRATOR_TRUSTED_TYPES = (
    "sklearn.tree._tree.Tree",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.utils._bunch.Bunch",
    "xgboost.core.Booster",
    "xgboost.sklearn.XGBClassifier",
)
_INTEGRATORS = (
    "LogisticRegression",
    "DecisionTreeClassifier",
    "CalibratedClassifierCV",
    "RandomForestClassifier",
    "AdaBoostClassifier",
    "GradientBoostingClassifier",
    "XGBClassifier",
    "VotingClassifier",
)

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class BundleError(Exception):
    """The bundle cannot be used; `str(error)` says in one sentence why."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Part(_Section):
    """One file of the bundle."""

    file: str
    sha256: Sha256
    architecture: str

    @field_validator("file")
    @classmethod
    def _stays_inside_the_bundle(cls, file: str) -> str:
        path = PurePosixPath(file)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise ValueError(f"{file!r} must be a path inside the bundle")
        return file


class Parts(_Section):
    """The three models of HER2Net (paper, section 4)."""

    segmenter: Part
    classifiers: Part
    integrator: Part


class Preprocessing(_Section):
    """How a scan becomes tiles, and which tiles count (paper, section 4.2)."""

    magnification: float = 4.0
    mpp: float = 2.5
    tile: Literal[512] = 512
    saturation: Annotated[float, Field(ge=0, le=255)] = 10.0
    tumor_fraction: Fraction = 0.10

    @field_validator("magnification")
    @classmethod
    def _is_that_of_the_tiles(cls, magnification: float) -> float:
        if magnification != _MAGNIFICATION:
            raise ValueError(
                f"this bundle wants tiles at {magnification:g}x, and her2d cuts them at"
                f" {_MAGNIFICATION:g}x only"
            )
        return magnification

    @field_validator("mpp")
    @classmethod
    def _is_about_that_of_the_tiles(cls, mpp: float) -> float:
        if not abs(mpp / _UM_PER_PX - 1) <= _MPP_TOLERANCE:
            raise ValueError(
                f"this bundle wants tiles of {mpp:g} um/px, and her2d cuts them at about"
                f" {_UM_PER_PX:g} um/px only"
            )
        return mpp


class Normalization(_Section):
    """Per-channel RGB mean and standard deviation on the 0..1 scale; applied inside the graphs."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class Decision(_Section):
    """The share of tumour pixels in strong tiles at which a slide is HER2-positive."""

    threshold: Fraction = 0.10


class Tolerance(_Section):
    """How far a compiled plan may be from ONNX Runtime in fp32 on the same tiles, and still serve.

    Attributes:
        mask_agreement: least share of pixels with the same class.
        max_dp: largest difference of any fold's p(strong).
        changed_tiles: largest share of tiles that become another class.
        change_in_p: largest change of P, percentage points.
    """

    mask_agreement: Fraction = 0.99
    max_dp: Fraction = 0.05
    changed_tiles: Fraction = 0.02
    change_in_p: Annotated[float, Field(ge=0, le=100)] = 0.5


class Spread(_Section):
    """Mean and standard deviation of one measure over slides."""

    mean: float
    std: Annotated[float, Field(gt=0)]


class Stain(_Section):
    """What tissue of the training cohort looks like: optical density in R, G and B, over slides."""

    mean: tuple[float, float, float]
    std: tuple[
        Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]
    ]
    saturation: Spread | None = None
    """Of tissue's mean HSV saturation, 0..255."""


class Training(_Section):
    """Where the weights come from."""

    cohort: str
    seed: int
    code_version: str
    command: str
    notes: str = ""


class CallCounts(_Section):
    """How many slides were called what; `indeterminate` is without a call."""

    positive: Annotated[int, Field(ge=0)]
    negative: Annotated[int, Field(ge=0)]
    indeterminate: Annotated[int, Field(ge=0)]


class Measured(_Section):
    """Held-out figures, with what they were measured on. Empty where nobody measured."""

    cohort: str
    slides: Annotated[int, Field(ge=0)]
    slides_positive: Annotated[int, Field(ge=0)]
    slides_without_tumor: Annotated[int, Field(ge=0)] = 0
    calls_without_tumor: CallCounts | None = None
    """Of these slides, whose right call is none; `slide_accuracy` and its like leave them out."""
    slides_without_call: Annotated[int, Field(ge=0)] | None = None
    """Of slides with a HER2 status; `slide_accuracy` and its like leave them out."""
    segmenter_miou: Fraction
    tile_auroc: Fraction
    slide_accuracy: Fraction
    slide_accuracy_ci_low: Fraction | None = None
    slide_accuracy_ci_high: Fraction | None = None
    slide_sensitivity: Fraction | None = None
    slide_specificity: Fraction | None = None
    slide_auroc: Fraction | None = None
    slide_accuracy_of_all: Fraction | None = None
    """Slides without a call taken for wrong."""


class Manifest(_Section):
    """The whole of `manifest.toml`."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
    version: str
    intended_use: str
    preprocessing: Preprocessing = Preprocessing()
    decision: Decision = Decision()
    normalization: Normalization
    tolerance: Tolerance = Tolerance()
    parts: Parts
    training: Training
    measured: Measured | None = None
    measured_external: Measured | None = None
    stain: Stain | None = None


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files were all found to be what its manifest says."""

    directory: Path
    manifest: Manifest
    digest: str
    """SHA-256 of the manifest: it holds every part's hash, so it names the whole bundle."""

    @property
    def segmenter(self) -> Path:
        return self.directory / self.manifest.parts.segmenter.file

    @property
    def classifiers(self) -> Path:
        return self.directory / self.manifest.parts.classifiers.file

    @property
    def integrator(self) -> Path:
        return self.directory / self.manifest.parts.integrator.file


def load_bundle(directory: Path) -> Bundle:
    """Read and verify the bundle in `directory`.

    Raises:
        BundleError: there is no manifest, it does not say what a manifest must, or a file is
            missing or differs from its SHA-256.
    """
    manifest_path = directory / MANIFEST_FILE
    try:
        text = manifest_path.read_bytes()
    except OSError as error:
        raise BundleError(
            f"There is no readable model bundle in {directory}: {MANIFEST_FILE}: {error.strerror}."
        ) from error
    manifest = _parse(text, manifest_path)
    parts = manifest.parts
    for part in (parts.segmenter, parts.classifiers, parts.integrator):
        _verify(directory / part.file, part.sha256)
    return Bundle(directory.resolve(), manifest, hashlib.sha256(text).hexdigest())


def load_integrator(bundle: Bundle) -> Any:
    """Restore the classifier over five fold probabilities (paper, section 4.5).

    Raises:
        BundleError: the file is no skops archive, holds a type that neither skops nor
            `INTEGRATOR_TRUSTED_TYPES` trusts or that is not installed, or is not one of the
            paper's eight, of two classes over five features.
    """
    # skops reads scikit-learn, which takes a second to import: only a running pipeline pays it.
    import zipfile

    with _NoTorch():
        import skops.io
    from skops.io.exceptions import UntrustedTypesFoundException

    try:
        model = skops.io.load(bundle.integrator, trusted=list(INTEGRATOR_TRUSTED_TYPES))
    except UntrustedTypesFoundException as error:
        raise BundleError(
            f"The integrator of {bundle.directory} is not trusted: {error}"
        ) from error
    except ModuleNotFoundError as error:
        raise BundleError(
            f"The integrator of {bundle.directory} needs {error.name}, which is not installed."
        ) from error
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError, OSError) as error:
        raise BundleError(
            f"The integrator of {bundle.directory} cannot be read: {error}"
        ) from error
    if (
        type(model).__name__ not in _INTEGRATORS
        or list(model.classes_) != [0, 1]
        or model.n_features_in_ != 5
    ):
        raise BundleError(
            f"The integrator of {bundle.directory} must be one of {', '.join(_INTEGRATORS)}"
            " that sorts five fold probabilities into 0 (weak) and 1 (strong)."
        )
    return model


class _NoTorch(MetaPathFinder):
    """Finds no torch, as on a machine that has none.

    skops asks scikit-learn for all its estimators, which imports every module of it, and one of
    those imports torch where it is installed: seconds and 300 MB that the daemon must not pay.
    """

    def __enter__(self) -> None:
        sys.meta_path.insert(0, self)

    def __exit__(self, *_: object) -> None:
        sys.meta_path.remove(self)

    def find_spec(self, fullname: str, *_: object) -> None:
        if fullname == "torch":
            raise ModuleNotFoundError("torch is kept out while skops is imported", name="torch")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, as 64 hexadecimal digits. Raises OSError where it cannot be read."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_HASH_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _parse(text: bytes, path: Path) -> Manifest:
    try:
        return Manifest.model_validate(tomllib.loads(text.decode()))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BundleError(f"{path} is not TOML: {error}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"])
        said = first["msg"].removeprefix("Value error, ")
        raise BundleError(f"{path}: {where}: {said}.") from error


def _verify(path: Path, sha256: str) -> None:
    try:
        found = sha256_of(path)
    except OSError as error:
        raise BundleError(f"The bundle's {path} cannot be read: {error.strerror}.") from error
    if found != sha256:
        raise BundleError(
            f"The bundle's {path} is not the file its manifest names:"
            f" SHA-256 is {found[:12]}…, the manifest says {sha256[:12]}…."
        )
