"""`her2d calibrate`: calibrate the bundle on the laboratory's own slides."""

import json
import math
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from sqlite_utils import Database

from her2d import __version__
from her2d.bundle.loading import Bundle, load_bundle
from her2d.bundle.site_calibration import (
    CalibrationError,
    CalibrationSlides,
    IhcZone,
    Measure,
    MeasuredHere,
    SiteCalibration,
    calibration_path,
    with_calibration,
)
from her2d.calibration.site import (
    TooFewOutcomes,
    find_ihc_zone,
    measure_here,
    write_calibration,
)
from her2d.cli.errors import UserError
from her2d.cli.options import ConfigOption, JsonOption, settings_of
from her2d.cli.outcomes import outcomes_in
from her2d.cli.tables import Listing, fields
from her2d.cli.terminal import say
from her2d.db.connection import open_readonly
from her2d.method import MethodName
from her2d.results.outcomes import (
    ComparedSlides,
    compare_with_calls,
    known_outcomes,
    outcomes_of_file,
)
from her2d.system.clock import local_day, now

_LEAST, _MOST = 0.5, 0.999
_RATES = {
    "sensitivity": "sensitivity of the calls",
    "specificity": "specificity of the calls",
    "positive_predictive_value": "positive predictive value",
    "negative_predictive_value": "negative predictive value",
    "interval_agrees": "interval of P agrees with IHC and FISH",
    "covered": "interval of P holds the share by IHC",
}
_BIASES = {
    "call_bias_points": "called positive minus positive",
    "share_bias_points": "P minus the share by IHC",
}


def calibrate(
    outcomes: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.csv",
            help="IHC and FISH results, as for `her2d outcomes import`; they are not imported."
            " Default: those that were imported.",
        ),
    ] = None,
    sensitivity: Annotated[
        float,
        typer.Option(
            min=_LEAST,
            max=_MOST,
            help="Wanted share of HER2-positive slides that are called positive or sent to IHC.",
        ),
    ] = 0.95,
    signed_by: Annotated[
        str | None,
        typer.Option(help="Who answers for the calibration. Without it nothing is written."),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Calibrate the bundle on the laboratory's own slides.

    Compares the bundle's calls and P with IHC and FISH, and chooses which slides to send to IHC so
    that the wanted sensitivity is reached. With --signed-by the calibration is written beside the
    bundle; the daemon uses it from its next start on.
    """
    if signed_by is not None and not signed_by.strip():
        raise UserError("--signed-by needs the name of a person.")
    settings = settings_of(config)
    bundle = load_bundle(settings.bundle.path)
    if bundle.manifest.method is MethodName.MIL:
        raise UserError(
            f"{_name(bundle)} calls slides by a probability and has no share of HER2-high tumour,"
            " from which a calibration sends slides to IHC."
        )
    with closing(open_readonly(settings.results.database)) as db:
        compared = _compared(db, outcomes, bundle)
    slides, measured = _slides(compared), measure_here(compared.called)
    try:
        zone = find_ihc_zone(
            compared.called,
            sensitivity=sensitivity,
            threshold=bundle.manifest.decision.threshold,
        )
    except TooFewOutcomes as error:
        _print(bundle, compared, slides, measured, None, as_json=as_json, error=str(error))
        raise UserError(str(error)) from error
    path = calibration_path(bundle, settings.bundle.calibration)
    if signed_by is None:
        _print(bundle, compared, slides, measured, zone, as_json=as_json)
        if not as_json:
            say(f"Nothing was written. With --signed-by it is written to {path}.")
        return
    replaced = _replaced(bundle, settings.bundle.calibration)
    calibration = SiteCalibration(
        bundle=_name(bundle),
        bundle_digest=bundle.digest,
        signed_by=signed_by.strip(),
        signed_at=now(),
        software_version=__version__,
        slides=slides,
        zone=zone,
        measured=measured,
    )
    try:
        write_calibration(path, calibration)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written: {error.strerror or error}. [bundle] calibration may name"
            " another place."
        ) from error
    _print(bundle, compared, slides, measured, zone, as_json=as_json, written=path)
    if not as_json:
        say(f"Wrote {path}.{replaced} The daemon uses it from its next start on.")


def _compared(db: Database, file: Path | None, bundle: Bundle) -> ComparedSlides:
    """Put the outcomes beside the bundle's calls. Raises UserError if none can be compared."""
    known = known_outcomes(db) if file is None else outcomes_of_file(outcomes_in(db, file))
    if not known:
        raise UserError(
            "There are no outcomes yet. Give --outcomes FILE.csv, or import some with her2d"
            " outcomes import."
        )
    compared = compare_with_calls(db, known, bundle.digest)
    if not len(compared.called):
        raise UserError(
            f"None of the {len(known)} slides with an outcome can be compared with {_name(bundle)}:"
            f" {_left_out(compared)}."
        )
    return compared


def _slides(compared: ComparedSlides) -> CalibrationSlides:
    called = compared.called
    assert compared.finished is not None  # there are called slides
    first, last = (date.fromisoformat(time[:10]) for time in compared.finished)
    return CalibrationSlides(
        called=len(called),
        patients=len(set(called.patient.tolist())),
        positive=int(called.positive.sum()),
        with_share=sum(not math.isnan(share) for share in called.ihc_share.tolist()),
        equivocal=compared.equivocal,
        without_call=compared.without_call,
        first_finished=first,
        last_finished=last,
    )


def _replaced(bundle: Bundle, setting: Path | None) -> str:
    """Return a sentence about the calibration that is there already; "" if there is none."""
    path = calibration_path(bundle, setting)
    if not path.exists():
        return ""
    try:
        signed = with_calibration(bundle, setting).calibration
    except CalibrationError:
        return " It replaces one that could not be used."
    assert signed is not None  # its file exists
    content = signed.content
    return (
        f" It replaces the one that {content.signed_by} signed on {local_day(content.signed_at)}"
        f" (digest {signed.digest[:12]}…)."
    )


def _print(
    bundle: Bundle,
    compared: ComparedSlides,
    slides: CalibrationSlides,
    measured: MeasuredHere,
    zone: IhcZone | None,
    *,
    as_json: bool,
    written: Path | None = None,
    error: str | None = None,
) -> None:
    if as_json:
        document: dict[str, Any] = {
            "bundle": _name(bundle),
            "bundle_digest": bundle.digest,
            "slides": {**slides.model_dump(mode="json"), "not_scored": compared.not_scored},
            "zone": None if zone is None else zone.model_dump(mode="json"),
            "measured": measured.model_dump(mode="json"),
            "file": None if written is None else str(written),
        }
        say(json.dumps(document if error is None else {**document, "error": error}, indent=2))
        return
    _table(bundle, slides, measured).print(Console())
    if left_out := _left_out(compared):
        say(f"Counted in no rate: {left_out}.")
    if zone is not None:
        say(f"\n{_sentences(zone)}")


def _table(bundle: Bundle, slides: CalibrationSlides, measured: MeasuredHere) -> Listing:
    rows = [
        (text, _percent(getattr(measured, name)))
        for name, text in _RATES.items()
        if getattr(measured, name) is not None
    ]
    rows += [
        (text, _points(getattr(measured, name)))
        for name, text in _BIASES.items()
        if getattr(measured, name) is not None
    ]
    return fields(
        rows,
        title=f"{_name(bundle)} on {slides.called} slides of {slides.patients} patients,"
        f" {slides.positive} HER2-positive (95 % intervals)",
    )


def _sentences(zone: IhcZone) -> str:
    sent = 100 * zone.sent.value
    if zone.from_percent >= zone.below_percent:
        where = "No slide that is called negative is sent to IHC"
    else:
        where = (
            f"Slides called negative with P of {zone.from_percent:g} % or more are sent to IHC:"
            f" {sent:.1f} % of the called slides"
        )
    return (
        f"{where}. On average over such calibrations, {100 * zone.sensitivity:g} % of HER2-positive"
        " slides or more are then called positive or sent; in 95 of 100, it is"
        f" {100 * zone.sensitivity_at_least:.1f} % or more."
    )


def _left_out(compared: ComparedSlides) -> str:
    counts = {
        "equivocal (IHC 2+ without FISH)": compared.equivocal,
        "without a call": compared.without_call,
        "not scored by this bundle": compared.not_scored,
    }
    return ", ".join(f"{number} {what}" for what, number in counts.items() if number)


def _percent(measure: Measure) -> str:
    return f"{100 * measure.value:.1f} % ({100 * measure.low:.1f} to {100 * measure.high:.1f} %)"


def _points(measure: Measure) -> str:
    return f"{measure.value:+.1f} points ({measure.low:+.1f} to {measure.high:+.1f})"


def _name(bundle: Bundle) -> str:
    return f"{bundle.manifest.name} {bundle.manifest.version}"
