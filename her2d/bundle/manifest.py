"""`manifest.toml`: what a bundle is made of, how it decides, what it was measured to do."""

import tomllib
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from her2d.errors import Her2dError
from her2d.method import MAGNIFICATION, SATURATION, THRESHOLD, TILE_PX, TUMOR_FRACTION, UM_PER_PX

MANIFEST_FILE = "manifest.toml"
# Scanners' 4x are 2.4 to 2.6 um/px.
_MPP_TOLERANCE = 0.05

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class BundleError(Her2dError):
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

    magnification: float = MAGNIFICATION
    mpp: float = UM_PER_PX
    tile: Literal[512] = TILE_PX
    saturation: Annotated[float, Field(ge=0, le=255)] = SATURATION
    tumor_fraction: Fraction = TUMOR_FRACTION

    @field_validator("magnification")
    @classmethod
    def _is_that_of_the_tiles(cls, magnification: float) -> float:
        if magnification != MAGNIFICATION:
            raise ValueError(
                f"this bundle wants tiles at {magnification:g}x, and her2d cuts them at"
                f" {MAGNIFICATION:g}x only"
            )
        return magnification

    @field_validator("mpp")
    @classmethod
    def _is_about_that_of_the_tiles(cls, mpp: float) -> float:
        if not abs(mpp / UM_PER_PX - 1) <= _MPP_TOLERANCE:
            raise ValueError(
                f"this bundle wants tiles of {mpp:g} um/px, and her2d cuts them at about"
                f" {UM_PER_PX:g} um/px only"
            )
        return mpp


class Normalization(_Section):
    """Per-channel RGB mean and standard deviation on the 0..1 scale; applied inside the graphs."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class Decision(_Section):
    """The share of tumour pixels in strong tiles at which a slide is HER2-positive."""

    threshold: Fraction = THRESHOLD


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


def parse_manifest(text: bytes, path: Path) -> Manifest:
    """Return the manifest in `text`, which was read from `path`. Raises BundleError."""
    try:
        return Manifest.model_validate(tomllib.loads(text.decode()))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BundleError(f"{path} is not TOML: {error}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"])
        said = first["msg"].removeprefix("Value error, ")
        raise BundleError(f"{path}: {where}: {said}.") from error
