"""Check whether the bundle is unaltered, and whether an engine can run it."""

import time
from collections.abc import Iterator

from her2d.api import Scorer
from her2d.bundle.integrator import Integrator
from her2d.bundle.loading import Bundle, load_bundle
from her2d.bundle.manifest import BundleError
from her2d.bundle.site_calibration import CalibrationError, with_calibration
from her2d.doctor.finding import Finding, failure, ok, warning
from her2d.inference.engine import EngineError
from her2d.inference.options import recorded_parts
from her2d.settings import Settings
from her2d.system.clock import local_day

_DEMO = "demonstration"


def verified_bundle(settings: Settings) -> Bundle | BundleError:
    """Load the bundle and verify all its hashes; return the error if it cannot be used."""
    try:
        bundle = load_bundle(settings.bundle.path)
        Integrator(bundle)
    except BundleError as error:
        return error
    return bundle


def calibration_finding(settings: Settings, bundle: Bundle) -> Finding:
    """Report on the calibration of a bundle on the laboratory's slides."""
    check = "calibration"
    try:
        signed = with_calibration(bundle, settings.bundle.calibration).calibration
    except CalibrationError as error:
        return failure(check, str(error), "The daemon does not start with it.")
    if signed is None:
        return ok(check, "The bundle is not calibrated on this laboratory's slides.")
    content = signed.content
    return ok(
        check,
        f"{signed.path} is of this bundle. {content.signed_by} signed it on"
        f" {local_day(content.signed_at)}; slides are sent to IHC from P ="
        f" {content.zone.from_percent:g} %.",
    )


def model_findings(settings: Settings, bundle: Bundle | BundleError) -> Iterator[Finding]:
    """Report on the bundle, then process a blank tile with the engine that the daemon would use.

    Args:
        settings: which engine to open.
        bundle: what `verified_bundle` returned.
    """
    check = "bundle"
    if isinstance(bundle, BundleError):
        yield failure(check, str(bundle), "Copy the bundle again, or set another [bundle] path.")
        return
    manifest = bundle.manifest
    message = f"{manifest.name} {manifest.version} is unaltered."
    if _DEMO in manifest.intended_use.lower():
        yield warning(
            check,
            f"{message} {manifest.intended_use}",
            "For real slides, set [bundle] path to a bundle made for them.",
        )
    else:
        yield ok(check, message)
    yield calibration_finding(settings, bundle)
    yield _engine(settings, bundle)


def _engine(settings: Settings, bundle: Bundle) -> Finding:
    """Open the engine as the daemon does, and process a blank tile."""
    check = "back end"
    started = time.perf_counter()
    try:
        with Scorer(bundle, settings=settings) as scorer:
            seconds = time.perf_counter() - started
            message = f"{scorer.backend} works; it was ready after {seconds:.2f} s."
            unused = scorer.processor.unused_plans
        if not unused:
            return ok(check, message)
        plan = unused[0]
        return warning(
            check,
            f"{message} The faster plan {plan.backend}-{plan.precision} is there and is not used.",
            f"`her2d run` logs why (plan_not_used). Compile it again: {plan.command}. Or set"
            f' [inference] backend = "{recorded_parts(scorer.backend)[0]}".',
        )
    except EngineError as error:
        return failure(
            check,
            str(error),
            'Set [inference] backend = "auto" to use the best back end that works here.',
        )
