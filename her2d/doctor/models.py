"""Check whether the bundle is unaltered, and whether an engine can run it."""

import re
import sys
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import cast

from her2d.bundle.integrator import Integrator
from her2d.bundle.loading import Bundle, load_bundle
from her2d.bundle.made_with import scikit_learn_of
from her2d.bundle.manifest import BundleError
from her2d.bundle.site_calibration import CalibrationError, with_calibration
from her2d.doctor.finding import Finding, Severity, failure, ok, warning
from her2d.inference.backends import candidate
from her2d.inference.engine import EngineError
from her2d.inference.options import (
    BACKENDS,
    BackendName,
    EngineOptions,
    Precision,
    recorded_parts,
)
from her2d.inference.plans import PlanError, PlanFiles, intact_plan
from her2d.method import MethodName
from her2d.settings import Settings
from her2d.system.clock import local_day
from her2d.system.extras import installing

_DEMO = "demonstration"
_SIDECAR = re.compile(rf"({'|'.join(BACKENDS)})-(fp32|fp16|bf16|int8)\.plan\.json")


def verified_bundle(settings: Settings) -> Bundle | BundleError:
    """Load the bundle and verify all its hashes; return the error if it cannot be used."""
    try:
        bundle = load_bundle(settings.bundle.path)
        if bundle.manifest.method is MethodName.HER2NET:
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
    if manifest.method is MethodName.HER2NET:
        yield from _made_with(bundle)
    yield calibration_finding(settings, bundle)
    plans = dict(_plans(bundle)) if manifest.method is MethodName.HER2NET else {}
    yield from plans.values()
    yield from _engine(settings, bundle, plans)


def _made_with(bundle: Bundle) -> Iterator[Finding]:
    """Report an integrator that another scikit-learn runs than the one that made it."""
    made_with, installed = scikit_learn_of(bundle), version("scikit-learn")
    if made_with is None or made_with == installed:
        return
    yield warning(
        "integrator",
        f"It was made with scikit-learn {made_with}, but {installed} is installed. Results may"
        " differ without an error.",
        f"Run {sys.executable} -m pip install scikit-learn=={made_with}, or build the bundle again"
        " with the installed version.",
    )


def _plans(bundle: Bundle) -> Iterator[tuple[tuple[str, str], Finding]]:
    """Yield each compiled plan, by back end and precision, and whether the daemon can use it."""
    for sidecar in sorted(bundle.directory.glob("*.plan.json")):
        if (named := _SIDECAR.fullmatch(sidecar.name)) is None:
            continue
        backend, precision = cast(BackendName, named[1]), cast(Precision, named[2])
        reason = _refusal(bundle, backend, precision)
        if reason is not None:
            found = warning(
                "compiled plan",
                f"{sidecar.name} is not used. {reason}",
                f"Compile it again here once that is mended, or delete {_all_files(sidecar)}.",
            )
        else:
            found = ok("compiled plan", f"{sidecar.name} can be used.")
        yield (backend, precision), found


def _refusal(bundle: Bundle, backend: BackendName, precision: Precision) -> str | None:
    try:
        intact_plan(PlanFiles(bundle, backend, precision))
    except PlanError as error:
        return str(error)
    found = candidate(backend, bundle, EngineOptions(precision=precision))
    return None if found.usable else found.reason


def _all_files(sidecar: Path) -> str:
    return f"{sidecar.with_name(sidecar.name.partition('.')[0])}.*"


def _engine(
    settings: Settings, bundle: Bundle, plans: Mapping[tuple[str, str], Finding]
) -> Iterator[Finding]:
    """Open the engine as the daemon does, and process a blank tile.

    Args:
        settings: which engine to open.
        bundle: the bundle.
        plans: what was found of each compiled plan; one with a problem is not named again.
    """
    from her2d.api import Scorer
    from her2d.processing.processor import engine_options

    check = "back end"
    started = time.perf_counter()
    try:
        with Scorer(bundle, settings=settings) as scorer:
            seconds = time.perf_counter() - started
            backend = scorer.backend
            message = f"{backend} works; it was ready after {seconds:.2f} s."
            named = {key for key, found in plans.items() if found.severity is not Severity.OK}
            unused = [
                plan
                for plan in scorer.processor.unused_plans
                if (plan.backend, plan.precision) not in named
            ]
            because = scorer.processor.runs_all_because
    except EngineError as error:
        name = settings.inference.backend
        reason = str(error)
        if name in ("tensorrt", "tensorrt_rtx"):
            # What the machine lacks comes before what the bundle lacks.
            needed = candidate(name, None, engine_options(settings))
            reason = reason if needed.usable else f"{name} does not work here. {needed.reason}"
        yield failure(
            check,
            reason,
            'Set [inference] backend = "auto" to use the best back end that works here.',
        )
        return
    if because is not None:
        yield warning(
            check,
            f"{message} All sub-classifiers are run for every tumour tile, although [inference]"
            f" run_all_classifiers is false. {because}",
            "Set [inference] run_all_classifiers = true. Results are the same.",
        )
    elif unused:
        plan = unused[0]
        runtime, precision = recorded_parts(backend)
        used = f'precision = "{precision}"' if plan.backend == runtime else f'backend = "{runtime}"'
        yield warning(
            check,
            f"{message} The faster plan {plan.backend}-{plan.precision} is there and is not used.",
            f"`her2d run` logs why (plan_not_used). Compile it again: {plan.command}. Or set"
            f" [inference] {used}.",
        )
    else:
        yield ok(check, message)
    if recorded_parts(backend) == ("onnxruntime", "fp32"):
        yield _rewritten(bundle, engine_options(settings).threads)


def _rewritten(bundle: Bundle, threads: int) -> Finding:
    """Compare the networks that are rewritten for the CPU with those of the bundle."""
    from her2d.inference.cpu_graph.whole_graph import compare_rewritten

    check = "rewritten networks"
    try:
        found = compare_rewritten(bundle, threads=threads)
    except EngineError as error:
        return failure(check, str(error), "Run her2d doctor again.")
    if networks := " and ".join(found.differing):
        return failure(
            check,
            f"On this machine, ONNX Runtime computes {networks}, rewritten for the CPU, differently"
            " from the bundle's own. The daemon computes with the rewritten networks all the same,"
            " and its results can differ from the bundle's.",
            "Stop the daemon, and install the version of ONNX Runtime that her2d is tested with:"
            f" {installing(None)}. Report it if this finding stays.",
        )
    if networks := " and ".join(found.rewritten):
        return ok(
            check, f"{networks}, rewritten for the CPU, gave the same bits as the bundle's own."
        )
    return ok(check, "ONNX Runtime computes the bundle's networks as they are.")
