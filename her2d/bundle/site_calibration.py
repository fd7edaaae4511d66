"""The calibration of a bundle on a laboratory's own slides: a TOML file beside the bundle.

It is not a part of the bundle: neither the bundle's files nor its digest change. It names the
digest of the bundle that it was made for, and with another bundle it is refused.
"""

import hashlib
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from her2d.bundle.loading import Bundle
from her2d.bundle.manifest import BundleError, Sha256
from her2d.method import MethodName
from her2d.system.files import read_bounded
from her2d.system.toml import parse_toml

SUFFIX = ".calibration.toml"

Percent = Annotated[float, Field(ge=0, le=100)]
Share = Annotated[float, Field(ge=0, le=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]
Text = Annotated[str, Field(min_length=1)]


class CalibrationError(BundleError):
    """The bundle's calibration cannot be used; `str(error)` says in one sentence why."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Measure(_Section):
    """A measured value with its 95 % interval."""

    value: Finite
    low: Finite
    high: Finite


class CalibrationSlides(_Section):
    """The slides that the calibration rests on.

    Attributes:
        called: slides with a call by the bundle and an outcome that is not equivocal. All figures
            are of these.
        patients: their patients.
        positive: how many of them are HER2-positive by IHC and FISH.
        with_share: how many of them have a share of HER2-high tumour by IHC.
        equivocal: slides of IHC 2+ without FISH, which count in no rate.
        without_call: slides that the bundle gives no call.
        first_finished, last_finished: days (UTC) on which the first and the last was scored.
    """

    called: Count
    patients: Count
    positive: Count
    with_share: Count
    equivocal: Count
    without_call: Count
    first_finished: date
    last_finished: date


class IhcZone(_Section):
    """Which slides are sent to IHC: those called negative with P of at least `from_percent`.

    A slide without a call is sent, too.

    Attributes:
        sensitivity: wanted share of HER2-positive slides that are called positive or sent.
        from_percent: P from which a slide is sent.
        below_percent: P below which it is: the threshold, from which a slide is called positive.
        positive_slides, positive_patients: HER2-positive slides that `from_percent` was chosen on.
        sensitivity_at_least: limit above which the sensitivity lies for 95 of 100 calibrations.
        sent: share of the called slides that are sent.
    """

    sensitivity: Annotated[float, Field(gt=0, lt=1)]
    from_percent: Percent
    below_percent: Percent
    positive_slides: Count
    positive_patients: Count
    sensitivity_at_least: Share
    sent: Measure

    @model_validator(mode="after")
    def _begins_before_it_ends(self) -> Self:
        if self.from_percent > self.below_percent:
            raise ValueError("from_percent must not be above below_percent")
        return self

    def holds(self, percent: float) -> bool:
        """Return whether a slide with that P, which is called negative, is sent to IHC."""
        return percent >= self.from_percent


class MeasuredHere(_Section):
    """How well the bundle did on the laboratory's slides; None where it could not be measured.

    Attributes:
        sensitivity, specificity: of the calls, without the zone.
        positive_predictive_value: share of the slides called positive that are.
        negative_predictive_value: share of the slides called negative that are.
        call_bias_points: share called positive minus share positive, percentage points.
        share_bias_points: mean of P minus the share by IHC, percentage points.
        covered: share of slides whose interval of P holds the share by IHC.
        interval_agrees: share of slides whose interval holds the threshold, or lies on the side of
            it on which IHC and FISH are.
    """

    sensitivity: Measure | None = None
    specificity: Measure | None = None
    positive_predictive_value: Measure | None = None
    negative_predictive_value: Measure | None = None
    call_bias_points: Measure
    share_bias_points: Measure | None = None
    covered: Measure | None = None
    interval_agrees: Measure


class SiteCalibration(_Section):
    """The whole of the file.

    Attributes:
        bundle, bundle_digest: name and version of the bundle, and the digest that it must have.
        signed_by: the person who answers for the calibration.
        signed_at: UTC, ISO-8601.
        software_version: of her2d.
    """

    bundle: Text
    bundle_digest: Sha256
    signed_by: Text
    signed_at: Text
    software_version: Text
    slides: CalibrationSlides
    zone: IhcZone
    measured: MeasuredHere


@dataclass(frozen=True, slots=True)
class SignedCalibration:
    """A calibration as it was read from a file.

    Attributes:
        path: the file.
        digest: SHA-256 of the file's bytes, which names the calibration.
        text: the file's text.
        content: what the text says.
    """

    path: Path
    digest: str
    text: str
    content: SiteCalibration


def calibration_path(bundle: Bundle, setting: Path | None) -> Path:
    """Return where a bundle's calibration is: `setting`, or beside the bundle's folder.

    The calibration of engines/ours is engines/ours.calibration.toml.
    """
    folder = bundle.directory
    return setting if setting is not None else folder.with_name(f"{folder.name}{SUFFIX}")


def with_calibration(bundle: Bundle, setting: Path | None) -> Bundle:
    """Return the bundle with its calibration, if there is one.

    Args:
        bundle: the bundle.
        setting: `[bundle] calibration`. A file that it names must exist; that beside the bundle
            need not.

    Raises:
        CalibrationError: the file cannot be read, is not valid, or is of another bundle, or the
            bundle has no share of HER2-high tumour that a zone could be of.
    """
    path = calibration_path(bundle, setting)
    try:
        data = read_bounded(path)
    except FileNotFoundError as error:
        if setting is None:
            return replace(bundle, calibration=None)
        raise CalibrationError(
            f"There is no calibration {path}. Correct [bundle] calibration, or write the file with"
            " her2d calibrate."
        ) from error
    except OSError as error:
        raise CalibrationError(
            f"The calibration {path} cannot be read: {error.strerror}."
        ) from error
    content = _parsed(data, path)
    if content.bundle_digest != bundle.digest:
        manifest = bundle.manifest
        raise CalibrationError(
            f"The calibration {path} is of {content.bundle} (digest {content.bundle_digest[:12]}…),"
            f" and the bundle is {manifest.name} {manifest.version} (digest"
            f" {bundle.digest[:12]}…). Calibrate this bundle with her2d calibrate, or move the file"
            " away to run without a calibration."
        )
    if bundle.manifest.method is MethodName.MIL:
        raise CalibrationError(
            f"The calibration {path} is of the share of HER2-high tumour, and the bundle"
            f" {bundle.directory} calls slides by a probability. Move the file away."
        )
    digest = hashlib.sha256(data).hexdigest()
    return replace(bundle, calibration=SignedCalibration(path, digest, data.decode(), content))


def _parsed(data: bytes, path: Path) -> SiteCalibration:
    try:
        return SiteCalibration.model_validate(parse_toml(data))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise CalibrationError(f"The calibration {path}: {where}: {message}.") from error
    except ValueError as error:
        raise CalibrationError(f"The calibration {path} is not TOML: {error}.") from error
