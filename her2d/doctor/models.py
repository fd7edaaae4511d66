"""Is the bundle unaltered, and does an engine run it?"""

import time
from collections.abc import Iterator

from her2d.bundle.integrator import Integrator
from her2d.bundle.loading import Bundle, load_bundle
from her2d.bundle.manifest import BundleError
from her2d.doctor.finding import Finding, failure, ok, warning
from her2d.inference.engine import EngineError
from her2d.inference.selection import open_engine
from her2d.inference.self_test import self_test
from her2d.processing.processor import engine_options
from her2d.settings import Settings

_DEMO = "demonstration"


def model_findings(settings: Settings) -> Iterator[Finding]:
    """Verify every hash, then run a blank tile through both graphs of what would serve."""
    check = "bundle"
    try:
        bundle = load_bundle(settings.bundle.path)
        Integrator(bundle)
    except BundleError as error:
        yield failure(check, str(error), "Copy the bundle again, or name another: [bundle] path.")
        return
    manifest = bundle.manifest
    said = f"{manifest.name} {manifest.version} is unaltered."
    if _DEMO in manifest.intended_use.lower():
        yield warning(
            check,
            f"{said} {manifest.intended_use}",
            "For real slides, name a bundle made for them.",
        )
    else:
        yield ok(check, said)
    yield _engine(settings, bundle)


def _engine(settings: Settings, bundle: Bundle) -> Finding:
    check = "back end"
    try:
        engine = open_engine(
            bundle, backend=settings.inference.backend, options=engine_options(settings)
        )
        try:
            started = time.perf_counter()
            self_test(engine)
            seconds = time.perf_counter() - started
        finally:
            engine.close()
    except EngineError as error:
        return failure(check, str(error), '[inference] backend = "auto" takes what works here.')
    return ok(check, f"{engine.backend} serves; its first tile took {seconds:.2f} s.")
