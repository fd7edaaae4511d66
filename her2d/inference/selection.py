"""Open an engine on a given back end, or on the best one that works here."""

from itertools import takewhile

from her2d.bundle.loading import Bundle
from her2d.inference.backends import Candidate, candidate
from her2d.inference.engine import DeviceLostError, Engine, EngineError
from her2d.inference.options import BACKENDS, BackendName, EngineOptions, recorded_parts
from her2d.inference.plan_engine import compiled_plans, open_plan
from her2d.inference.plans import PlanFiles
from her2d.system.loggers import get_logger

log = get_logger(__name__)


def open_engine(
    bundle: Bundle, *, backend: str, threads: int = 0, options: EngineOptions | None = None
) -> Engine:
    """Open a bundle on a back end.

    Args:
        bundle: a verified bundle.
        backend: one of `BACKENDS`, or `auto` for the best that works here; the choice is logged.
        threads: as in `EngineOptions`, for callers that need no other option.
        options: how the engine runs; replaces `threads`.

    Raises:
        DeviceLostError: the device is lost to this process.
        EngineError: there is no such back end, or it does not work on this machine.
    """
    options = options or EngineOptions(threads=threads)
    if backend == "auto":
        return _best(bundle, options)
    for name in BACKENDS:
        if backend == name:
            return _open(name, bundle, options)
    raise EngineError(f"There is no back end {backend!r}. Choose auto or {', '.join(BACKENDS)}.")


def unused_plans(
    bundle: Bundle, wanted: str, used: str, options: EngineOptions
) -> tuple[PlanFiles, ...]:
    """Find the compiled plans that would be faster than the engine that was opened, best first.

    Args:
        bundle: the plans are in its folder.
        wanted: the back end that was asked for, or `auto`.
        used: the engine's name as recorded with each result.
        options: only the precision matters.
    """
    runtime, precision = recorded_parts(used)
    passed_over = _fastest_plans(bundle, runtime, options) if wanted == "auto" else ()
    own = (
        plan
        for name in BACKENDS
        if name == runtime
        for plan in compiled_plans(bundle, name, options.precision)
    )
    return (*passed_over, *takewhile(lambda plan: plan.precision != precision, own))


def _fastest_plans(bundle: Bundle, runtime: str, options: EngineOptions) -> tuple[PlanFiles, ...]:
    """Return the fastest compiled plan of each back end that is better than `runtime`."""
    better = takewhile(lambda name: name != runtime, BACKENDS)
    return tuple(
        plan for name in better for plan in compiled_plans(bundle, name, options.precision)[:1]
    )


def _best(bundle: Bundle, options: EngineOptions) -> Engine:
    passed_over: list[Candidate] = []
    for name in BACKENDS:
        found = candidate(name, bundle, options)
        if found.usable:
            try:
                engine = _open(name, bundle, options)
            except DeviceLostError as error:
                # A new process is more likely to succeed than another back end in this one.
                log.error("device_lost_at_opening", backend=name, reason=str(error))
                raise
            except EngineError as error:
                found = Candidate(name, False, str(error))
            else:
                log.info(
                    "backend_chosen",
                    backend=engine.backend,
                    on=found.reason,
                    passed_over={other.name: other.reason for other in passed_over},
                )
                _warn_of_unused_plans(bundle, engine, options, passed_over)
                return engine
        passed_over.append(found)
    reasons = " ".join(f"{other.name}: {other.reason}" for other in passed_over)
    raise EngineError(f"No back end works here. {reasons}")


def _warn_of_unused_plans(
    bundle: Bundle, engine: Engine, options: EngineOptions, passed_over: list[Candidate]
) -> None:
    reasons = {other.name: other.reason for other in passed_over}
    runtime, _ = recorded_parts(engine.backend)
    for plan in _fastest_plans(bundle, runtime, options):
        log.warning(
            "plan_not_used",
            plan=f"{plan.backend}-{plan.precision}",
            backend=engine.backend,
            reason=reasons[plan.backend],
        )


# A back end is imported when it is opened: its library may not be installed, the daemon must not
# import torch unless it was chosen, and a command that opens none starts sooner.


def _open(name: BackendName, bundle: Bundle, options: EngineOptions) -> Engine:
    if name == "torch":
        from her2d.inference.torch_engine import TorchEngine

        return TorchEngine(bundle, options)
    if name == "onnxruntime" and options.precision in (None, "fp32"):
        from her2d.inference.onnxruntime_engine import OnnxRuntimeEngine

        return OnnxRuntimeEngine(
            bundle, threads=options.threads, separate_folds=options.separate_folds
        )
    if name == "onnxruntime" and options.precision != "int8":
        raise EngineError(f"onnxruntime supports fp32 and int8, not {options.precision}.")
    return open_plan(bundle, name, options)
